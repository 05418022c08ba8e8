"""Where it happens: settings, keys, stores, topics, access and the embedded broker."""
