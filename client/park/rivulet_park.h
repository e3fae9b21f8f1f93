/* rivulet_park.h: a record that cannot be handled now is tried again later, and in the end parked,
 * without stopping its partition. Part of rivulet, on top of rivulet.h; link librivulet-park. This
 * header is the manual.
 *
 *     const char *topics[] = {"users"};
 *     rv_park_open(client, "billing", topics, 1, RV_OPTIONS({"park.delays", "1s,10s,1m"}), -1,
 *                  &park, &e);
 *     for (;;) {
 *         rv_park_poll(park, 1000, &records, &count, &e);
 *         for (i = 0; i < count; i++)
 *             if (!handle(&records[i])) rv_park_failed(park, &records[i], "why", &e);
 *         rv_park_commit(park, 30000, &e);
 *     }
 *
 * HOW. The group `billing` reads `users` and, for every delay, a topic of its own:
 *
 *     users.billing.retry.1   what failed once; read again a second later
 *     users.billing.retry.2   what failed twice; ten seconds later
 *     users.billing.retry.3   what failed three times; a minute later
 *     users.billing.parked    what failed four times; for people: `rivulet parked`
 *
 * rv_park_failed sends the record to the next of them. A topic a delay, and not one for all: in
 * each the record in front is due first, so that it is enough to pause a partition until that one
 * is. Retry topics are the group's own: other groups of `users` see nothing of it, and `rivulet
 * parked send` brings a record back to this group only, by its first retry topic.
 *
 * THE PROMISE. At least once: no offset is ever committed past a record that was neither handled
 * nor stored in a retry topic or parked. rv_park_commit waits until all records that were handed
 * over are stored. Where one could not be, its partition is read from that record again, and only
 * what is before it is committed. So a record may come twice, also as a copy in a retry topic;
 * origin topic, partition and offset are the same then, which is what to tell duplicates by.
 *
 * ORDER. Records of one key overtake one another: what comes behind a failing record is handled
 * before it. Who needs the order of a key must stop, or keep the key's later records back himself:
 * this part does not. Within one retry topic records of one key keep their order.
 *
 * WHO CALLS WHAT. The park opens its own consumer and producer on the client; the partitions are
 * polled, committed and paused by it alone. With the next rv_park_poll, and when partitions go to
 * another member, everything that was given before counts as handled, but for what was failed. No
 * hidden threads: as in rivulet.h, and a program with its own loop also wakes up after
 * rv_park_timeout.
 *
 * THE TOPICS are made by rv_park_open where they are not there, with as many partitions as the
 * origin has; retry topics keep records as long as the origin does, parked ones for ever. Delays
 * may be changed; where there are fewer of them than before, the topics of those that are gone are
 * not read any more: let them run empty first.
 *
 * HEADERS, all text, named as Kafka's brokers name them (KIP-1191):
 *     __dlq.errors.topic  __dlq.errors.partition  __dlq.errors.offset    where it is from
 *     __dlq.errors.group                                                 whose it is
 *     __dlq.errors.delivery.count                                        how often it failed
 *     __dlq.errors.message                                               why, the last time
 *     __rivulet.origin.timestamp       its own timestamp, in ms: in a retry topic it has a new one
 * Others, key and value stay as they are. */
#ifndef RIVULET_PARK_H
#define RIVULET_PARK_H

#include <rivulet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rv_park;

struct rv_park_record {
    struct rv_record record;  /* as it was read: perhaps from a retry topic, with its headers */
    const char *origin_topic; /* where it was at first; 0-terminated */
    int32_t origin_partition;
    int64_t origin_offset;
    int64_t origin_timestamp_ms;
    int32_t tries; /* that failed so far; 0: it comes for the first time */
};

/* Options of producer and consumer (group.id and delivery are the park's own business), and:
 *   park.delays   what to wait before each new try, 16 at most: 500ms, 10s, 5m, 2h, 1d
 *                 ("1s,10s,1m")
 *   park.name     stands in the names of the topics in the place of the group
 *   park.create   whether missing topics are made (true)
 * Waits up to timeout_ms (-1: a minute) for the topics. RV_E_OPTION; RV_E_ARGUMENT: a name that a
 * topic cannot have; UNKNOWN_TOPIC_OR_PARTITION. */
RV_API int rv_park_open(struct rv_client *client, const char *group, const char *const *topics,
                        size_t topic_count, const struct rv_option *options, int timeout_ms,
                        struct rv_park **ret_park, struct rv_error *ret_error);

/* Leaves the group, and commits nothing: for a good end, rv_park_commit before. Takes NULL. */
RV_API int rv_park_close(struct rv_park *park, int timeout_ms, struct rv_error *ret_error);

/* Gives records of the topics, and of the retry topics those that are due, as many as are there;
 * waits up to timeout_ms for the first. Borrowed until the next rv_park_poll. Errors are those of
 * rv_poll. */
RV_API int rv_park_poll(struct rv_park *park, int timeout_ms,
                        const struct rv_park_record **ret_records, size_t *ret_count,
                        struct rv_error *ret_error);

/* Hands the record, one of the last rv_park_poll, over to its next topic; `reason` (may be NULL) is
 * cut at 1000 bytes. It is stored when rv_park_commit says so. Errors are those of rv_send: then it
 * was not handed over, and comes again, as all that is behind it in its partition. Not allowed in
 * callbacks. */
RV_API int rv_park_failed(struct rv_park *park, const struct rv_park_record *record,
                          const char *reason, struct rv_error *ret_error);

/* Commits what was given and handled, see THE PROMISE; call it when every record of the last
 * rv_park_poll was handled or failed. RV_E_TIMED_OUT: not all is stored yet, nothing is committed.
 * With an error of a hand-over (RV_RETRIABLE) what is before that record is committed, and the rest
 * comes again. Else errors are those of rv_commit. */
RV_API int rv_park_commit(struct rv_park *park, int timeout_ms, struct rv_error *ret_error);

/* Milliseconds until a record that waits in a retry topic is due; -1: none is known. */
RV_API int rv_park_timeout(const struct rv_park *park);

/* Partitions that go and come, RV_JUMPED and so on, as rv_consumer_on_event tells them. A jump in a
 * retry topic means that records were removed before they were tried again. */
RV_API void rv_park_on_event(struct rv_park *park, rv_event_fn *fn, void *ctx);

struct rv_park_stats {
    int64_t retried; /* handed over to a retry topic, and stored */
    int64_t parked;  /* likewise, to a parking topic */
    int64_t rewound; /* hand-overs that failed: the record is read again */
    int64_t foreign; /* records in a retry topic that are not this group's: passed over */
    size_t pending;  /* handed over, not stored yet */
    size_t held;     /* partitions of retry topics that wait until their next record is due */
};
RV_API void rv_park_stats(const struct rv_park *park, struct rv_park_stats *ret_stats);

/* The name of a topic of `name` (the group, or park.name): step 1, 2, ... its retry topics, 0 the
 * parking topic. False: no topic can be called that. */
enum { RV_PARK_NAME_SIZE = 250 };
RV_API bool rv_park_topic(const char *topic, const char *name, int step,
                          char ret_name[RV_PARK_NAME_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
