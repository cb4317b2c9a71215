"""The click commands of the exporters; one file a command, which declares `COMMAND`."""
