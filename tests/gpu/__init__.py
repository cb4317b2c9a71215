"""`make gpu`: one walk of the whole toolkit over a machine with an NVIDIA GPU, and a page of what ran.

Every step is a command that users type, in a process of its own with a limit on its time. Nothing is
installed: what the machine's Python lacks may come as wheels in a folder, or its steps are skipped by name.
"""
