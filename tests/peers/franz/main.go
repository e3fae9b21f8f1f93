// Peer tests of franz-go. usage: franz BROKER CONTROL_URL rivulet|kafka [TEST]   (the runner's kit.py says what it prints)
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const limit = 60 * time.Second

var (
	// Times of records: of the past, which must not matter to what a broker knows of their producer. To Kafka they do: it
	// takes the newest for the producer's last use, and forgets the producer when it is killed and starts again.
	baseMs int64 = 1767225600000

	broker, control, only string
	rivulet               bool
	checks, failed        int
	admin                 *kadm.Client
)

type failure struct{ text string }

// that ends the test, unless it holds.
func that(holds bool, format string, args ...any) {
	if !holds {
		panic(failure{fmt.Sprintf(format, args...)})
	}
}

func ok(err error, what string) {
	that(err == nil, "%s: %v", what, err)
}

func same[V comparable](want, got V, what string) {
	that(want == got, "%s: want %v, got %v", what, want, got)
}

func until(what string, holds func() bool) {
	for end := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Millisecond) {
		that(time.Now().Before(end), "not within %s: %s", limit, what)
	}
}

func check(name string, body func()) {
	if !strings.Contains(name, only) {
		return
	}
	checks++
	began := time.Now()
	defer func() {
		why := recover()
		if why == nil {
			fmt.Printf("ok %s (%.1f s)\n", name, time.Since(began).Seconds())
			return
		}
		failed++
		text := fmt.Sprint(why)
		if f, is := why.(failure); is {
			text = f.text
		}
		fmt.Printf("not ok %s (%.1f s) | %s\n", name, time.Since(began).Seconds(), strings.ReplaceAll(text, "\n", " "))
		for _, line := range strings.Split(string(debug.Stack()), "\n") {
			if strings.Contains(line, "/franz/") {
				fmt.Println("#", line)
			}
		}
	}()
	body()
}

// restart ends the broker, "term" or "kill", and returns when it listens again.
func restart(how string) {
	answer, err := http.Get(control + "/" + how)
	ok(err, "restart")
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	that(answer.StatusCode == 200, "restart: %s", text)
}

func timed() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func client(more ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.FetchMaxWait(50 * time.Millisecond), kgo.MetadataMinAge(20 * time.Millisecond), kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.SessionTimeout(10 * time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, more...)...)
	ok(err, "client")
	return c
}

func create(topic string, partitions int32, configs map[string]*string) {
	made, err := admin.CreateTopic(timed(), partitions, 1, configs, topic)
	ok(err, "create")
	ok(made.Err, "create")
	// In Kafka a topic is created before its partitions have a leader that answers.
	until("the topic's partitions are led", func() bool {
		ends, err := admin.ListEndOffsets(timed(), topic)
		return err == nil && ends.Error() == nil && len(ends[topic]) == int(partitions)
	})
}

// ---- records with numbers

// Even a batch of one must become smaller by every codec: otherwise the client sends it as it is.
func value(n int) []byte {
	return []byte(fmt.Sprintf("%07d %s", n, strings.Repeat("words that come again; ", 5+n%9)))
}

func number(r *kgo.Record) int {
	n := -1
	_, err := fmt.Sscanf(string(r.Value), "%d", &n)
	ok(err, "value of a record")
	return n
}

func record(topic string, n int, partitions int32) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: int32(n) % partitions, Key: []byte(fmt.Sprintf("key-%d", n%17)), Value: value(n),
		Timestamp: time.UnixMilli(baseMs + int64(n)*1000),
		Headers:   []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(n))}, {Key: "none", Value: nil}, {Key: "", Value: []byte{}}}}
}

// sender produces numbered records and keeps what was answered.
type sender struct {
	sync.Mutex
	client *kgo.Client
	topic  string
	parts  int32
	places map[int]int64 // offset answered for a record
	errs   []error
}

func newSender(topic string, parts int32, more ...kgo.Opt) *sender {
	return &sender{client: client(append(more, kgo.RecordPartitioner(kgo.ManualPartitioner()))...), topic: topic, parts: parts,
		places: map[int]int64{}}
}

func (s *sender) send(first, count int) {
	for n := first; n < first+count; n++ {
		s.client.Produce(context.Background(), record(s.topic, n, s.parts), func(r *kgo.Record, err error) {
			s.Lock()
			defer s.Unlock()
			if err != nil {
				s.errs = append(s.errs, err)
			}
			s.places[n] = r.Offset
		})
	}
}

func (s *sender) acknowledged() int {
	s.Lock()
	defer s.Unlock()
	return len(s.places)
}

func (s *sender) flush() {
	ok(s.client.Flush(timed()), "flush")
	s.Lock()
	defer s.Unlock()
	that(len(s.errs) == 0, "delivery: %v", s.errs)
}

func produce(topic string, parts int32, first, count int, more ...kgo.Opt) {
	s := newSender(topic, parts, more...)
	defer s.client.Close()
	s.send(first, count)
	s.flush()
}

// assertOnce reads a topic from its start: records 0..count-1, each once, each in its partition at its place, unchanged.
func assertOnce(topic string, parts int32, count int) {
	c := client(kgo.ConsumeTopics(topic))
	defer c.Close()
	next := make([]int64, parts)
	for seen := 0; seen < count; {
		fetches := c.PollFetches(timed())
		ok(fetches.Err(), "poll")
		fetches.EachRecord(func(r *kgo.Record) {
			n := int(next[r.Partition])*int(parts) + int(r.Partition)
			same(next[r.Partition], r.Offset, "offset")
			same(n, number(r), fmt.Sprintf("record at %s-%d@%d", topic, r.Partition, r.Offset))
			want := record(topic, n, parts)
			that(bytes.Equal(want.Key, r.Key) && bytes.Equal(want.Value, r.Value) && want.Timestamp.Equal(r.Timestamp), "record %d came back changed", n)
			that(len(r.Headers) == 3 && string(r.Headers[0].Value) == fmt.Sprint(n) && r.Headers[1].Value == nil && r.Headers[2].Value != nil,
				"headers of record %d: %v", n, r.Headers)
			next[r.Partition]++
			seen++
		})
	}
	ends, err := admin.ListEndOffsets(timed(), topic)
	ok(err, "end offsets")
	ends.Each(func(o kadm.ListedOffset) {
		same(next[o.Partition], o.Offset, fmt.Sprintf("end of %s-%d", topic, o.Partition))
	})
}

func main() {
	if os.Args[1] == "clients" {
		clients(os.Args[2:])
		return
	}
	broker, control, rivulet = os.Args[1], os.Args[2], os.Args[3] == "rivulet"
	if !rivulet {
		baseMs = time.Now().UnixMilli()
	}
	if len(os.Args) > 4 {
		only = os.Args[4]
	}
	admin = kadm.NewClient(client())
	runProduce()
	runGroups()
	runAdmin()
	runRestarts()
	fmt.Println("done", checks)
	if failed > 0 {
		os.Exit(1)
	}
}
