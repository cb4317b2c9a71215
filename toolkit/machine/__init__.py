"""What this machine is: processor, GPUs, packages."""
