"""The contract: every record that travels on a topic or rests in one. No Kafka here, and no machine learning."""
