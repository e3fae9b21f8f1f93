package main

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func runAdmin() {
	check("admin: topics, settings, log directories", topicsAndSettings)
	check("admin: groups and their offsets", groupsAndOffsets)
}

func text(s string) *string { return &s }

func topicsAndSettings() {
	topic := "franz-admin"
	create(topic, 2, map[string]*string{"retention.ms": text("3600000")})
	_, err := admin.CreateTopic(timed(), 1, 1, nil, topic)
	that(errors.Is(err, kerr.TopicAlreadyExists), "creating it again: %v", err)
	configs := func() map[string]string {
		described, err := admin.DescribeTopicConfigs(timed(), topic)
		ok(err, "describe settings")
		got := map[string]string{}
		for _, c := range described[0].Configs {
			got[c.Key] = c.MaybeValue()
		}
		return got
	}
	same("3600000", configs()["retention.ms"], "setting given at creation")
	altered, err := admin.AlterTopicConfigs(timed(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: text("2000")},
		{Op: kadm.DeleteConfig, Name: "retention.ms"}}, topic)
	ok(err, "alter")
	ok(altered[0].Err, "alter")
	same("2000", configs()["max.message.bytes"], "setting that was altered")
	that(configs()["retention.ms"] != "3600000", "the deleted setting stays")
	altered, err = admin.AlterTopicConfigs(timed(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: text("many")}}, topic)
	ok(err, "alter")
	that(errors.Is(altered[0].Err, kerr.InvalidConfig), "a bad value: %v", altered[0].Err)
	c := client(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer c.Close()
	err = c.ProduceSync(timed(), kgo.SliceRecord(make([]byte, 5000))).FirstErr()
	that(errors.Is(err, kerr.MessageTooLarge), "a record over max.message.bytes: %v", err)
	ok(c.ProduceSync(timed(), kgo.SliceRecord(make([]byte, 1000))).FirstErr(), "a record under it")
	dirs, err := admin.DescribeAllLogDirs(timed(), nil)
	ok(err, "log directories")
	size, found := int64(0), 0
	dirs.Each(func(d kadm.DescribedLogDir) {
		for _, p := range d.Topics[topic] {
			size += p.Size
			found++
		}
	})
	that(found == 2 && size >= 1000, "%d partitions of %d bytes in the directories", found, size)
	meta, err := admin.Metadata(timed(), topic)
	ok(err, "metadata")
	same(1, len(meta.Brokers), "brokers")
	same(2, len(meta.Topics[topic].Partitions), "partitions")
	deleted, err := admin.DeleteTopics(timed(), topic)
	ok(err, "delete")
	ok(deleted[topic].Err, "delete")
	until("the topic is gone", func() bool {
		topics, err := admin.ListTopics(timed())
		return err == nil && !topics.Has(topic)
	})
	deleted, err = admin.DeleteTopics(timed(), topic)
	ok(err, "delete again")
	that(errors.Is(deleted[topic].Err, kerr.UnknownTopicOrPartition), "deleting it again: %v", deleted[topic].Err)
}

func groupsAndOffsets() {
	topic := "franz-admin-group"
	create(topic, 2, nil)
	produce(topic, 2, 0, 20)
	m := join(topic, topic, kgo.Balancers(kgo.RangeBalancer()), kgo.ClientID("the-one"))
	untilRead(20, m)
	described, err := admin.DescribeGroups(timed(), topic)
	ok(err, "describe")
	g := described[topic]
	that(g.Err == nil && g.State == "Stable" && g.Protocol == "range" && len(g.Members) == 1 && g.Members[0].ClientID == "the-one",
		"group: %+v", g)
	lag, err := admin.Lag(timed(), topic)
	ok(err, "lag")
	same(int64(0), lag[topic].Lag.Total(), "lag")
	gone, err := admin.DeleteGroups(timed(), topic)
	ok(err, "delete")
	that(errors.Is(gone[topic].Err, kerr.NonEmptyGroup), "deleting a live group: %v", gone[topic].Err)
	m.leave()
	listed, err := admin.ListGroups(timed())
	ok(err, "list")
	same("Empty", listed[topic].State, "state in the list")
	var set kadm.Offsets
	set.AddOffset(topic, 0, 4, -1)
	ok(admin.CommitAllOffsets(timed(), topic, set), "commit for the group")
	back, err := admin.FetchOffsets(timed(), topic)
	ok(err, "fetch offsets")
	at, _ := back.Lookup(topic, 0)
	same(int64(4), at.At, "offset that was set")
	gone, err = admin.DeleteGroups(timed(), topic)
	ok(err, "delete")
	ok(gone[topic].Err, "delete")
	listed, err = admin.ListGroups(timed())
	ok(err, "list")
	_, there := listed[topic]
	that(!there, "the deleted group is listed")
}
