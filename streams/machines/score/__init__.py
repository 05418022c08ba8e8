"""Online scoring: what the router, the score host and the joiner decide, without clocks and topics."""
