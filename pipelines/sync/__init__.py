"""Makes Kubeflow agree with schedules and packages that are kept in Git."""
