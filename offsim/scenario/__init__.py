"""What is asked: a model, a workload, a node and a policy."""
