package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

func acks(name string) []kgo.Opt {
	switch name {
	case "0":
		return []kgo.Opt{kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()}
	case "1":
		return []kgo.Opt{kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()}
	}
	return []kgo.Opt{kgo.RequiredAcks(kgo.AllISRAcks())} // idempotent
}

func runProduce() {
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, a := range []string{"0", "1", "all"} {
			check(fmt.Sprintf("produce %s acks=%s, read back", codec, a), func() { roundTrip(codec, a) })
		}
	}
	check("idempotent producer: 20,000 records in order, once", func() {
		create("franz-idempotent", 4, nil)
		produce("franz-idempotent", 4, 0, 20000, kgo.ProducerBatchMaxBytes(4000))
		assertOnce("franz-idempotent", 4, 20000)
	})
	check("one request of more than 32 MiB", largeRequests)
	check("offsets of times, reading from a time", times)
	if rivulet {
		check("transactional producer is refused", func() {
			c := client(kgo.TransactionalID("t"), kgo.DefaultProduceTopic("franz-transactions"), kgo.RecordDeliveryTimeout(5*time.Second))
			defer c.Close()
			err := c.BeginTransaction()
			that(errors.Is(err, kerr.InvalidRequest), "beginning a transaction: %v", err)
		})
	}
}

func roundTrip(codec, a string) {
	topic := fmt.Sprintf("franz-codec-%s-%s", codec, a)
	create(topic, 3, nil)
	s := newSender(topic, 3, append(acks(a), kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerBatchMaxBytes(5000))...)
	s.send(0, 1000)
	s.flush()
	s.client.Close()
	if a != "0" {
		for n := range 1000 {
			same(int64(n/3), s.places[n], fmt.Sprintf("offset answered for record %d", n))
		}
	}
	assertOnce(topic, 3, 1000)
}

// sizes is a hook: the largest produce request that was written, as the client counts it.
const produceKey = 0

type sizes struct {
	sync.Mutex
	largest int
}

func (s *sizes) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, written int, _, _ time.Duration, err error) {
	s.Lock()
	defer s.Unlock()
	if key == produceKey && err == nil && written > s.largest {
		s.largest = written
	}
}

// A batch of nearly 1 MB for each of 64 partitions, sent all at once, twice.
func largeRequests() {
	const partitions, rounds, size, least = 64, 2, 900_000, 32 << 20
	topic := "franz-large"
	create(topic, partitions, nil)
	random := rand.New(rand.NewPCG(1, 2))
	values := map[int32][][]byte{}
	hook := &sizes{}
	var lock sync.Mutex
	var wrong []string
	c := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing(), kgo.WithHooks(hook), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer c.Close()
	for round := range rounds {
		for p := range int32(partitions) {
			v := make([]byte, size)
			for i := range v {
				v[i] = byte(random.Uint32())
			}
			values[p] = append(values[p], v)
			c.Produce(timed(), &kgo.Record{Topic: topic, Partition: p, Value: v}, func(r *kgo.Record, err error) {
				lock.Lock()
				defer lock.Unlock()
				if err != nil || r.Offset != int64(round) {
					wrong = append(wrong, fmt.Sprintf("partition %d: offset %d for %d, error %v", r.Partition, r.Offset, round, err))
				}
			})
		}
		ok(c.Flush(timed()), "flush")
	}
	that(len(wrong) == 0, "%v", wrong)
	that(hook.largest > least, "the largest request had %d bytes", hook.largest)
	reader := client(kgo.ConsumeTopics(topic))
	defer reader.Close()
	next := make([]int, partitions)
	for seen := 0; seen < partitions*rounds; {
		fetches := reader.PollFetches(timed())
		ok(fetches.Err(), "poll")
		fetches.EachRecord(func(r *kgo.Record) {
			same(int64(next[r.Partition]), r.Offset, "offset")
			that(bytes.Equal(values[r.Partition][r.Offset], r.Value), "record %d of partition %d came back changed", r.Offset, r.Partition)
			next[r.Partition]++
			seen++
		})
	}
}

func times() {
	topic := "franz-times"
	create(topic, 1, nil)
	produce(topic, 1, 0, 500, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	for _, n := range []int{0, 1, 77, 498, 499} {
		for _, early := range []int64{0, 1, 999} {
			at, err := admin.ListOffsetsAfterMilli(timed(), baseMs+int64(n)*1000-early, topic)
			ok(err, "offsets of a time")
			o, _ := at.Lookup(topic, 0)
			same(int64(n), o.Offset, fmt.Sprintf("offset of the time of record %d less %d ms", n, early))
		}
	}
	c := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(baseMs+300*1000)))
	defer c.Close()
	next := 300
	for next < 500 {
		fetches := c.PollFetches(timed())
		ok(fetches.Err(), "poll")
		fetches.EachRecord(func(r *kgo.Record) {
			same(next, number(r), "record after the time")
			next++
		})
	}
	c.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 42}}})
	until("the record that was sought", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		records := c.PollRecords(ctx, 1).Records()
		return len(records) == 1 && number(records[0]) == 42
	})
}
