# SPDX-License-Identifier: PostgreSQL
"""Reading and writing topics as an application would."""

import ctypes
import json
import struct
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import (OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError,
                             KafkaException, Producer, TopicPartition)

import schemas
from process import NotReached, wait_until


@dataclass(frozen=True)
class Record:
    """One record as a consumer sees it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple              # of (name, bytes or None), in order
    timestamp_type: int
    timestamp_ms: int

    @property
    def json(self):
        return json.loads(self.value)

    def header(self, name):
        """The text of the one header with this name; None: there is none."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"header {name} is there {len(found)} times"
        return found[0].decode() if found else None

    @property
    def sequence(self):
        return int(self.header("ce_sequence"))

    @property
    def place_id(self):
        """The id of a record without one of its own: its offset and
        fingerprint (docs/relay-protocol.md)."""
        packed = b"".join(with_length(name.encode(), ">H")
                          + with_length(value) for name, value in self.headers)
        crc = crc32c(b"".join(map(with_length, (
            self.key, self.value, packed if self.headers else None))))
        return (f"{self.topic}/{self.partition}/{self.offset}"
                f"/{self.timestamp_ms}.{crc:08x}")


def with_length(data, form=">i"):
    """Bytes behind their length, in network byte order; -1: there are none."""
    if data is None:
        return struct.pack(form, -1)
    return struct.pack(form, len(data)) + data


def crc32c(data):
    """CRC-32C (RFC 3720, 12.1)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def headers_of(message):
    """The headers of a message, in order.

    confluent-kafka 1.7.0 returns None for a null value without counting the
    reference; enough of them abort the interpreter, so count it here.
    """
    headers = tuple(message.headers() or ())
    for _, value in headers:
        if value is None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))
    return headers


class Tail:
    """A reader that keeps every record, from the start of its topics."""

    def __init__(self, brokers, topics):
        self.topics = topics
        self.records = []
        self.consumer = Consumer({
            "bootstrap.servers": brokers, "group.id": f"tail-{uuid.uuid4()}",
            "enable.auto.commit": False, "enable.partition.eof": True,
            "topic.metadata.refresh.interval.ms": 1000, "log_level": 0,
            "reconnect.backoff.max.ms": 200, "fetch.wait.max.ms": 20})
        self.next = {}              # offset to come, of each partition
        self._assign()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.consumer.close()

    def _assign(self):
        known = self.consumer.list_topics(timeout=20).topics
        for topic in self.topics:
            assert not known[topic].error, f"{topic}: {known[topic].error}"
            self.next |= {(topic, number): 0
                          for number in known[topic].partitions}
        self.consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING)
                              for topic, number in self.next])

    def _poll(self, timeout):
        """Take the records that arrive within the timeout.

        One message at a time: librdkafka 2.0.2's batch call loses some.
        """
        message = self.consumer.poll(timeout)
        while message is not None:
            self._take(message)
            message = self.consumer.poll(0)

    def _take(self, message):
        place = (message.topic(), message.partition())
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                self.next[place] = message.offset()
            return                  # the client reconnects by itself
        self.next[place] = message.offset() + 1
        kind, timestamp = message.timestamp()
        self.keep(Record(
            *place, message.offset(), message.key(), message.value(),
            headers_of(message), kind, timestamp))

    def keep(self, record):
        self.records.append(record)

    def read_to_end(self, timeout=30):
        """Read every record that exists at this moment."""
        deadline = time.monotonic() + timeout
        ends = self.ends(timeout)
        while any(self.next[place] < end for place, end in ends.items()):
            self._poll(0.02)
            if time.monotonic() > deadline:
                raise NotReached(f"at {self.next}, not at {ends}")
        return self.records

    def ends(self, timeout=30):
        """The present end of each partition; a broker that has just created
        them, or just started, may need a second query.

        Not get_watermark_offsets(): librdkafka 2.0.2 may wait in it for ever.
        """
        asked = [TopicPartition(*place, OFFSET_END) for place in self.next]

        def reported():
            with suppress(KafkaException):
                ends = self.consumer.offsets_for_times(asked, timeout=5)
                return not any(end.error for end in ends) and {
                    (end.topic, end.partition): end.offset for end in ends}

        return wait_until(reported, timeout, f"the ends of {asked}", step=0.1)

    def until(self, cond, timeout, what):
        """Read until cond(records) is true; return its result."""
        deadline = time.monotonic() + timeout
        while not (answer := cond(self.records)):
            if time.monotonic() > deadline:
                raise NotReached(f"not after {timeout} s: {what}; read "
                                 f"{len(self.records)}: {self.records[-3:]}")
            self._poll(0.02)
        return answer


class Examiner(Tail):
    """A reader that keeps only what is wrong with the records."""

    def __init__(self, brokers, topics):
        self.faults = []
        super().__init__(brokers, topics)

    def keep(self, record):
        wrong = schemas.record_fault(record)
        if wrong:
            self.faults.append(f"{wrong}: {record}")


def producer(brokers, **config):
    """A plain application's producer, with Java's partitioner."""
    config = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": brokers, "linger.ms": 2,
                     "partitioner": "murmur2_random", "log_level": 0,
                     "message.max.bytes": 8000000, **config})


def send(target, topic, value, key=None, headers=None, **kwargs):
    """Give one record to a producer; a dict or list as JSON."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value).encode()
    if topic in schemas.MESSAGES and value is not None and (
            not schemas.is_accepted(topic, value)):
        kwargs.setdefault("on_delivery", schemas.note_forbidden)
    target.produce(topic, value=value, key=key, headers=headers, **kwargs)


def delivered(target, timeout=30):
    """Wait until the broker has every record that was sent."""
    left = target.flush(timeout)
    assert left == 0, f"{left} records were not delivered"


def murmur2(data):
    """The hash of Java's DefaultPartitioner, from its specification."""
    mask, length = 0xFFFFFFFF, len(data)
    m, h = 0x5BD1E995, 0x9747B28C ^ length
    for at in range(0, length - length % 4, 4):
        k = int.from_bytes(data[at:at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = data[length - length % 4:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, partitions):
    """The partition that Java's producer chooses for this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
