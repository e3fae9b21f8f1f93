package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// member reads as part of a group, one record at a time, and commits each before the next.
type member struct {
	sync.Mutex
	client     *kgo.Client
	owned      map[int32]bool
	read       []*kgo.Record
	rebalances int
	err        error
	cancel     context.CancelFunc
	done       chan struct{}
}

func join(group, topic string, more ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	gone := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
		m.Lock()
		defer m.Unlock()
		for _, p := range parts[topic] {
			delete(m.owned, p)
		}
	}
	m.client = client(append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			m.Lock()
			defer m.Unlock()
			for _, p := range parts[topic] {
				m.owned[p] = true
			}
			m.rebalances++
		})}, more...)...)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
	return m
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := m.client.PollRecords(poll, 1)
		cancel()
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
				m.fail(e.Err)
			}
		}
		for _, r := range fetches.Records() {
			m.Lock()
			m.read = append(m.read, r)
			m.Unlock()
			if err := m.client.CommitRecords(context.Background(), r); err != nil && ctx.Err() == nil && !movedOn(err) {
				m.fail(err)
			}
		}
		m.client.AllowRebalance()
	}
}

// movedOn: the group has a new generation; what could not be committed is read again by its new owner.
func movedOn(err error) bool {
	return errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.RebalanceInProgress)
}

func (m *member) fail(err error) {
	m.Lock()
	defer m.Unlock()
	if m.err == nil {
		m.err = err
	}
}

func (m *member) failure() error {
	m.Lock()
	defer m.Unlock()
	return m.err
}

func (m *member) leave() {
	m.cancel()
	<-m.done
	m.client.CloseAllowingRebalance()
	ok(m.failure(), "a member of the group")
}

func (m *member) has() []int32 {
	m.Lock()
	defer m.Unlock()
	var parts []int32
	for p := range m.owned {
		parts = append(parts, p)
	}
	slices.Sort(parts)
	return parts
}

func readBy(members ...*member) []int {
	var got []int
	for _, m := range members {
		m.Lock()
		for _, r := range m.read {
			got = append(got, number(r))
		}
		m.Unlock()
	}
	slices.Sort(got)
	return got
}

func untilRead(count int, members ...*member) {
	until(fmt.Sprintf("%d records read by the group", count), func() bool {
		for _, m := range members {
			ok(m.failure(), "a member of the group")
		}
		return len(readBy(members...)) >= count
	})
}

func untilShared(parts int, members ...*member) {
	until(fmt.Sprintf("%d members share %d partitions", len(members), parts), func() bool {
		seen, total := map[int32]bool{}, 0
		for _, m := range members {
			ok(m.failure(), "a member of the group")
			has := m.has()
			if len(has) == 0 {
				return false
			}
			for _, p := range has {
				seen[p] = true
				total++
			}
		}
		return len(seen) == parts && total == parts
	})
}

// once: the members together read 0..count-1, each once, each of them a partition's records in order.
func once(count int, members ...*member) {
	got := readBy(members...)
	same(count, len(got), "records read by the group")
	for n := range count {
		same(n, got[n], "records read by the group, sorted")
	}
	for _, m := range members {
		last := map[int32]int64{}
		for _, r := range m.read {
			before, some := last[r.Partition]
			that(!some || before < r.Offset, "partition %d goes back to %d", r.Partition, r.Offset)
			last[r.Partition] = r.Offset
		}
	}
}

func runGroups() {
	for name, balancer := range map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "round-robin": kgo.RoundRobinBalancer(),
		"sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer()} {
		check("group: members join and leave, "+name, func() { comeAndGo("franz-group-"+name, kgo.Balancers(balancer)) })
	}
	check("group: static members come back, and are fenced", staticMembers)
}

func comeAndGo(topic string, balancer kgo.Opt) {
	parts := 6
	create(topic, int32(parts), nil)
	produce(topic, int32(parts), 0, 120)
	one := join(topic, topic, balancer)
	untilRead(120, one)
	two, three := join(topic, topic, balancer), join(topic, topic, balancer)
	untilShared(parts, one, two, three)
	produce(topic, int32(parts), 120, 300)
	untilRead(420, one, two, three)
	that(len(readBy(two)) > 0 && len(readBy(three)) > 0, "a member that owns partitions read nothing")
	one.leave()
	untilShared(parts, two, three)
	produce(topic, int32(parts), 420, 120)
	untilRead(540, one, two, three)
	two.leave()
	three.leave()
	four := join(topic, topic, balancer)
	produce(topic, int32(parts), 540, 60)
	untilRead(600, one, two, three, four)
	four.leave()
	once(600, one, two, three, four)
	offsets, err := admin.FetchOffsets(timed(), topic)
	ok(err, "committed offsets")
	for p := range parts {
		at, has := offsets.Lookup(topic, int32(p))
		that(has && at.At == 100, "committed offset of %d: %v", p, at.At)
	}
}

func staticMembers() {
	topic := "franz-static"
	create(topic, 4, nil)
	static := func(name string) *member {
		return join(topic, topic, kgo.InstanceID(name), kgo.Balancers(kgo.RangeBalancer()))
	}
	one, two := static("one"), static("two")
	untilShared(4, one, two)
	produce(topic, 4, 0, 80)
	untilRead(80, one, two)
	before, seen := fmt.Sprint(one.has()), two.rebalances
	one.leave()
	again := static("one")
	until("the member that came back owns its partitions", func() bool { return fmt.Sprint(again.has()) == before })
	produce(topic, 4, 80, 80)
	untilRead(160, one, two, again)
	two.Lock()
	same(seen, two.rebalances, "rebalances that the other member saw")
	two.Unlock()
	usurper := static("two")
	until("the first of two members with one name is fenced", func() bool { return errors.Is(two.failure(), kerr.FencedInstanceID) })
	until("the second owns the partitions", func() bool { return len(usurper.has()) == 2 })
	again.leave()
	usurper.leave()
	two.cancel()
	<-two.done
	two.client.CloseAllowingRebalance()
	once(160, one, two, again, usurper)
}
