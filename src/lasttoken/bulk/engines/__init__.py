"""Engines that hand out the parts of a job to the machines of a cluster."""
