/* event: one event as bytes, the body of a chain's entry. The format is at the head of event.c. */
#pragma once

#include "base/bytes.h"
#include "base/str.h"
#include "client/rivulet.h"

enum { EVENT_TOPIC_LIMIT = 249 }; /* bytes of a topic's name, as Kafka has it */

/* The last `size` bytes of v, big-endian. */
static inline void put_number(struct buf *out, uint64_t v, size_t size)
{
    uint8_t bytes[8];
    put_be64(bytes, v);
    buf_add(out, bytes + sizeof bytes - size, size);
}

struct event {
    int64_t appended_ms;  /* wall time */
    int64_t timestamp_ms; /* as it is sent */
    int32_t partition;    /* -1: the partitioner's choice */
    struct str topic;     /* what follows is borrowed from the bytes */
    struct bytes key;     /* may be null */
    struct bytes value;   /* may be null */
    int32_t header_count;
    const uint8_t *headers; /* encoded as in a record: record_header_next (protocol/batch.h) */
    size_t headers_size;    /* bytes */
    struct bytes body;      /* all of it, encoded */
};

/* RV_E_ARGUMENT, INVALID_TOPIC_EXCEPTION: what cannot be an event. */
int event_check(const struct rv_message *m, struct rv_error *ret_error);

/* Appends it to `out`, of a message that passed event_check. */
void event_encode(const struct rv_message *m, int64_t appended_ms, int64_t timestamp_ms,
                  struct buf *out);
err event_decode(struct bytes body, struct event *ret_event); /* ERR_CORRUPT */

/* The event as a message that borrows from it, from `topic`, and from *ret_headers, which is the
 * caller's to give to mem_free. ERR_MEMORY. */
err event_message(const struct event *e, char topic[EVENT_TOPIC_LIMIT + 1],
                  struct rv_message *ret_message, struct rv_header **ret_headers);

/* What was set aside: an event, and why. */
struct refusal {
    uint64_t number; /* of the event in the spool */
    int32_t code;
    bool is_unsure; /* it may have been stored all the same */
    struct str why;
    struct bytes event;
};
void refusal_encode(const struct refusal *r, struct buf *out);
err refusal_decode(struct bytes body, struct refusal *ret_refusal); /* ERR_CORRUPT */

/* Of what was set aside: that these go into the spool again, one behind the other from a number on.
 * It stands in the file of what was set aside, behind them; no refusal is one. */
struct again {
    uint64_t first;         /* number that the first one gets */
    uint32_t count;         /* of entries */
    const uint8_t *entries; /* borrowed: their numbers in the file, 8 bytes each */
};
void again_encode(uint64_t first, const uint64_t *entries, size_t count, struct buf *out);
bool again_decode(struct bytes body, struct again *ret_again); /* false: it is none */
