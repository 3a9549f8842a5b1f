"""What users call: workflows, configuration, command line, reports."""
