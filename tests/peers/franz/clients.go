package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	pendingMax   = 5000 // records of a writer without an answer: then it waits
	pollMax      = 500
	commitLimit  = 20 * time.Second
	clockOfPeers = 1 // CLOCK_MONOTONIC: the clock of the lines
)

// clients are what the kill loop has of franz-go, all in one process: standard input tells which come and go, standard output what they are told.
// tests/killloop/clients.py, class Host, says the lines.
//
//	franz clients BROKER
func clients(args []string) {
	broker = args[0]
	running := map[string]chan struct{}{}
	var ended sync.WaitGroup
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		name, rest := words[1], words[2:]
		if words[0] == "stop" {
			close(running[name])
			continue
		}
		body := map[string]func(string, []string, chan struct{}){"write": write, "follow": follow, "join": sit}[words[0]]
		running[name] = make(chan struct{})
		ended.Go(func() {
			body(name, rest, running[name])
			say("bye", name)
		})
	}
	ended.Wait()
}

var (
	outLock sync.Mutex
	out     = bufio.NewWriter(os.Stdout)
)

// say prints a line at once: who reads the pipe has what was told, whenever this process is killed.
func say(words ...any) {
	outLock.Lock()
	defer outLock.Unlock()
	fmt.Fprintln(out, words...)
	out.Flush()
}

func clockNs() int64 {
	var at syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockOfPeers, uintptr(unsafe.Pointer(&at)), 0)
	return at.Nano()
}

// ---- a writer: idempotent, acks=all; it never waits for an answer before it sends the next record.

// NAME TOPIC PARTITIONS SEED; the records are those of librivulet/writer.c.
func write(name string, args []string, stopped chan struct{}) {
	partitions, _ := strconv.Atoi(args[1])
	seed, _ := strconv.ParseInt(args[2], 10, 64)
	random := rand.New(rand.NewSource(seed))
	c := client(kgo.ClientID(name), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		kgo.RecordRetries(1<<30), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(pendingMax), kgo.ProducerLinger(2*time.Millisecond),
		kgo.DefaultProduceTopic(args[0]))
	var pending sync.WaitGroup
	next := make([]int, partitions)
	for running := true; running; {
		for range 1 + random.Intn(20) {
			p := random.Intn(partitions)
			n := next[p]
			next[p]++
			head := fmt.Sprintf("%s/%d/%d/", name, p, n)
			value := strings.Repeat(head, 2+400/len(head))[:len(head)+n*37%400]
			pending.Add(1)
			c.Produce(context.Background(), &kgo.Record{Key: []byte(name), Value: []byte(value), Partition: int32(p)}, func(r *kgo.Record, err error) {
				defer pending.Done()
				if err != nil {
					say("failed", name, p, n, err)
				} else {
					say("ack", name, p, n, r.Offset)
				}
			})
		}
		select {
		case <-stopped:
			running = false
		case <-time.After(time.Duration(1+random.Intn(40)) * time.Millisecond):
		}
	}
	pending.Wait()
	c.Close()
}

// ---- readers

// tellRead prints what one poll brought: a line for each run of offsets without a gap.
func tellRead(name string, fetches kgo.Fetches) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		var line strings.Builder
		for n, r := range p.Records {
			if n > 0 && r.Offset != p.Records[n-1].Offset+1 {
				say(line.String())
				line.Reset()
			}
			if line.Len() == 0 {
				fmt.Fprintf(&line, "read %s %s/%d %d", name, p.Topic, p.Partition, r.Offset)
			}
			fmt.Fprintf(&line, " %x", crc32.ChecksumIEEE(r.Value))
		}
		if line.Len() > 0 {
			say(line.String())
		}
	})
}

// tellErrors prints what a poll was told beside its records. The client goes on by itself, but for a position that is gone.
func tellErrors(name string, fetches kgo.Fetches) {
	fetches.EachError(func(topic string, p int32, err error) {
		var loss *kgo.ErrDataLoss
		switch {
		case errors.Is(err, context.DeadlineExceeded):
		case errors.Is(err, kerr.OffsetOutOfRange) || errors.As(err, &loss):
			say("reset", name, topic, p, err)
		default:
			say("told", name, kindOf(err), err)
		}
	})
}

// kindOf is one word for an error, to count it by: that of the innermost.
func kindOf(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return strings.ReplaceAll(err.Error(), " ", "_")
}

func poll(c *kgo.Client) kgo.Fetches {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	return c.PollRecords(ctx, pollMax)
}

func isClosed(stopped chan struct{}) bool {
	select {
	case <-stopped:
		return true
	default:
		return false
	}
}

// NAME TOPIC/PARTITION...: reads each from 0 on, without a group, and never accepts to be put anywhere else.
func follow(name string, places []string, stopped chan struct{}) {
	from := map[string]map[int32]kgo.Offset{}
	for _, place := range places {
		topic, p, _ := strings.Cut(place, "/")
		partition, _ := strconv.Atoi(p)
		if from[topic] == nil {
			from[topic] = map[int32]kgo.Offset{}
		}
		from[topic][int32(partition)] = kgo.NewOffset().At(0)
	}
	c := client(kgo.ClientID(name), kgo.ConsumePartitions(from), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer c.Close()
	for !isClosed(stopped) {
		fetches := poll(c)
		tellErrors(name, fetches)
		tellRead(name, fetches)
	}
}

// seat is a member of a group. What was read it commits, and waits for the answer.
type seat struct {
	sync.Mutex
	name    string
	client  *kgo.Client
	pending map[string]map[int32]kgo.EpochOffset // read and not committed: the next offset
}

// NAME GROUP STRATEGY SESSION_MS HEARTBEAT_MS TOPIC...
func sit(name string, args []string, stopped chan struct{}) {
	balancer := map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer()}[args[1]]
	s := &seat{name: name, pending: map[string]map[int32]kgo.EpochOffset{}}
	gone := func(parts map[string][]int32) {
		if len(parts) > 0 {
			s.forget(parts)
			say(append([]any{"give", name}, placesOf(parts)...)...)
		}
	}
	s.client = client(kgo.ClientID(name), kgo.ConsumerGroup(args[0]), kgo.ConsumeTopics(args[4:]...), kgo.Balancers(balancer),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.SessionTimeout(milliseconds(args[2])), kgo.HeartbeatInterval(milliseconds(args[3])),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			say(append([]any{"own", name, clockNs()}, placesOf(parts)...)...)
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, c *kgo.Client, parts map[string][]int32) {
			s.commit(c)
			gone(parts)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { gone(parts) }))
	for due := time.Now(); !isClosed(stopped); {
		fetches := poll(s.client)
		tellErrors(name, fetches)
		tellRead(name, fetches)
		s.note(fetches)
		if time.Now().After(due) {
			s.commit(s.client)
			due = time.Now().Add(time.Duration(20+rand.Intn(180)) * time.Millisecond)
		}
		s.client.AllowRebalance()
	}
	s.client.CloseAllowingRebalance() // it gives up what it has, and so commits
}

func milliseconds(word string) time.Duration {
	n, _ := strconv.Atoi(word)
	return time.Duration(n) * time.Millisecond
}

func placesOf(parts map[string][]int32) (places []any) {
	for topic, numbers := range parts {
		for _, p := range numbers {
			places = append(places, fmt.Sprintf("%s/%d", topic, p))
		}
	}
	return places
}

func (s *seat) note(fetches kgo.Fetches) {
	s.Lock()
	defer s.Unlock()
	fetches.EachRecord(func(r *kgo.Record) {
		if s.pending[r.Topic] == nil {
			s.pending[r.Topic] = map[int32]kgo.EpochOffset{}
		}
		s.pending[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
	})
}

func (s *seat) forget(parts map[string][]int32) {
	s.Lock()
	defer s.Unlock()
	for topic, numbers := range parts {
		for _, p := range numbers {
			delete(s.pending[topic], p)
		}
	}
}

// commit: what is refused is tried again with the next one, unless it is somebody else's by then.
func (s *seat) commit(c *kgo.Client) {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	tried := []any{"try", s.name}
	s.Lock()
	for topic, parts := range s.pending {
		for p, at := range parts {
			if offsets[topic] == nil {
				offsets[topic] = map[int32]kgo.EpochOffset{}
			}
			offsets[topic][p] = at
			tried = append(tried, fmt.Sprintf("%s/%d:%d", topic, p, at.Offset))
		}
	}
	s.Unlock()
	if len(offsets) == 0 {
		return
	}
	say(tried...)
	ctx, cancel := context.WithTimeout(context.Background(), commitLimit)
	defer cancel()
	c.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			say("refused", s.name, kindOf(err), err)
			return
		}
		s.answered(offsets, answer)
	})
}

// answered takes what was taken off what is still to be committed.
func (s *seat) answered(offsets map[string]map[int32]kgo.EpochOffset, answer *kmsg.OffsetCommitResponse) {
	s.Lock()
	defer s.Unlock()
	done := []any{"done", s.name, clockNs()}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				say("refused", s.name, kindOf(err), t.Topic, p.Partition)
				continue
			}
			at := offsets[t.Topic][p.Partition]
			if s.pending[t.Topic][p.Partition] == at {
				delete(s.pending[t.Topic], p.Partition)
			}
			done = append(done, fmt.Sprintf("%s/%d:%d", t.Topic, p.Partition, at.Offset))
		}
	}
	if len(done) > 3 {
		say(done...)
	}
}
