package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func runRestarts() {
	check("clients live through SIGTERM of the broker", func() { live("term") })
	check("clients live through kill -9 of the broker", func() { live("kill") })
}

// live: a producer, two members and an admin client go on while the broker goes away and comes back three times.
func live(how string) {
	const parts, turns, each = 3, 3, 400
	topic := "franz-restart-" + how
	create(topic, parts, nil)
	s := newSender(topic, parts, kgo.ProducerBatchMaxBytes(2000), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	one := join(topic, topic, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	two := join(topic, topic, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	untilShared(parts, one, two)
	floor := make([]int64, parts)
	for turn := range turns {
		s.send(turn*each, each/2)
		// franz-go gives up when a broker ends between a connection and its first answer: it must be at work.
		until("a record is acknowledged", func() bool { return s.acknowledged() > turn*each })
		restart(how)
		s.send(turn*each+each/2, each/2)
		s.flush()
		until("all that was sent so far has been read", func() bool { return different(one, two) >= (turn+1)*each })
		var offsets kadm.OffsetResponses
		until("committed offsets", func() (answered bool) { // the first try may meet the connection that broke
			var err error
			offsets, err = admin.FetchOffsets(timed(), topic)
			return err == nil
		})
		offsets.Each(func(o kadm.OffsetResponse) {
			that(o.At >= floor[o.Partition], "the offset of %d went back from %d to %d", o.Partition, floor[o.Partition], o.At)
			floor[o.Partition] = o.At
		})
	}
	one.close()
	two.close()
	same(turns*each, different(one, two), "different records read by the group")
	for n := range turns * each {
		same(int64(n/parts), s.places[n], fmt.Sprintf("offset answered for record %d", n))
	}
	s.client.Close()
	assertOnce(topic, parts, turns*each)
}

// close is leave for a member that has seen connections break: their errors are no failure here.
func (m *member) close() {
	m.cancel()
	<-m.done
	m.client.CloseAllowingRebalance()
}

func different(members ...*member) int {
	seen := map[int]bool{}
	for _, n := range readBy(members...) {
		seen[n] = true
	}
	return len(seen)
}
