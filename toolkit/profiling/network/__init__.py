"""What is profiled: modules in the order of execution, where they were made and what they move."""
