"""usage: placement.py BROKER TOPIC FILE COLUMN       Sends the keys of FILE (as java/peers/Placement.java writes them) with librdkafka's
murmur2 partitioner, and prints what did not go to the partition of the column, then how many did."""
import sys

import confluent_kafka as ck

BROKER, TOPIC, FILE, COLUMN = sys.argv[1:5]
wrong, right = [], 0


def delivered(key, want):
    def note(error, message):
        global right
        if error or message.partition() != want:
            wrong.append(f"{key}: want {want}, got {error or message.partition()}")
        else:
            right += 1
    return note


def main():
    producer = ck.Producer({"bootstrap.servers": BROKER, "partitioner": "murmur2", "linger.ms": 20, "queue.buffering.max.messages": 100000})
    with open(FILE) as f:
        for line in f:
            key, *places = line.rstrip("\n").split("\t")
            producer.produce(TOPIC, key=bytes.fromhex(key), value=b"", on_delivery=delivered(key, int(places[int(COLUMN)])))
            producer.poll(0)
    left = producer.flush(60)
    for at in wrong[:20]:
        print(at)
    print(f"same {right} of {right + len(wrong) + left}")


if __name__ == "__main__":
    main()
