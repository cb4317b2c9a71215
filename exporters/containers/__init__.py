"""Folders that a cluster runs: a network with its server's container, tried here, and manifests for it."""
