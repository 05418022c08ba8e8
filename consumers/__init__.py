"""The processes: each binds topics, a consumer group, a transactional slot and a machine."""
