"""Runs on a cluster: packages and runs in Kubeflow, and what becomes of their workflows."""
