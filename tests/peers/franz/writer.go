package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const pendingMax = 5000 // records without an answer: then it waits

// writer is what librivulet/writer.c is, in franz-go: the same arguments without options, records, and lines on standard output.
//
//	franz writer BROKER NAME TOPIC PARTITIONS SEED
func writer(args []string) {
	broker = args[0]
	name, topic := args[1], args[2]
	partitions, _ := strconv.Atoi(args[3])
	seed, _ := strconv.ParseInt(args[4], 10, 64)
	random := rand.New(rand.NewSource(seed))
	c := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.RecordRetries(1<<30),
		kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(pendingMax), kgo.ProducerLinger(2*time.Millisecond), kgo.DefaultProduceTopic(topic))
	var ended sync.WaitGroup
	stopped := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stopped)
	}()
	var lock sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	say := func(format string, values ...any) {
		lock.Lock()
		defer lock.Unlock()
		fmt.Fprintf(out, format+"\n", values...)
		out.Flush()
	}
	next := make([]int, partitions)
	for running := true; running; {
		for range 1 + random.Intn(20) {
			p := random.Intn(partitions)
			n := next[p]
			next[p]++
			head := fmt.Sprintf("%s/%d/%d/", name, p, n)
			value := strings.Repeat(head, 2+400/len(head))[:len(head)+n*37%400]
			ended.Add(1)
			c.Produce(context.Background(), &kgo.Record{Key: []byte(name), Value: []byte(value), Partition: int32(p)}, func(r *kgo.Record, err error) {
				defer ended.Done()
				if err != nil {
					say("failed %d %d %s 1 %v", p, n, "error", err)
				} else {
					say("ack %d %d %d", p, n, r.Offset)
				}
			})
		}
		select {
		case <-stopped:
			running = false
		case <-time.After(time.Duration(1+random.Intn(40)) * time.Millisecond):
		}
	}
	ended.Wait()
	for p, n := range next {
		say("sent %d %d", p, n)
	}
	say("flushed RV_OK ")
	c.Close()
}
