"""Claims with teeth; see docs for what each folder proves."""
