"""Parts of a pipeline that methods share, each a nested pipeline: a layer of the graph that people see in Kubeflow."""
