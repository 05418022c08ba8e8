"""Read-side views of the event topics. Nothing here is on the exactly-once path."""
