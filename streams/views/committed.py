"""A faust transport whose consumer reads committed records only.

Faust ties the isolation level to its own exactly-once mode: a view that processes at least once, as all of ours do,
would read records of transactions that were aborted. There is no setting for it, hence these three classes.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka as driver


class CommittedConsumerThread(driver.AIOKafkaConsumerThread):
    """Makes its client with `isolation_level="read_committed"`."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        # The one place that turns this flag into an isolation level; everywhere else it would mean transactions.
        self.consumer.in_transaction = True
        try:
            return super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False


class CommittedConsumer(driver.Consumer):
    """Faust's consumer around `CommittedConsumerThread`."""

    def _new_consumer_thread(self) -> CommittedConsumerThread:
        return CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(driver.Transport):
    """Faust's aiokafka transport with `CommittedConsumer`; its producer is faust's own."""

    Consumer = CommittedConsumer
