/* park: what a struct rv_park is made of. park.c reads, hands over, commits; park_open.c opens and
 * makes topics; park_names.c names and headers. */
#pragma once

#include "base/list.h"
#include "base/str.h"
#include "client/park/rivulet_park.h"

enum {
    PARK_DELAYS_MAX = 16,
    PARK_TOPICS_MAX = 256,  /* origins */
    PARK_REASON_MAX = 1000, /* bytes */
    PARK_HEADERS = 7,       /* of ours, in a record */
};

/* A topic that is read, or the one for parking. */
struct park_topic {
    char *name;         /* owned */
    const char *origin; /* borrowed of the origin's row */
    int step;           /* 0: the origin; 1, 2, ...: retry topics; then the parking topic */
    int64_t delay_ms;   /* of a retry topic: until its records are due */
};

/* A record that was handed over, until its fate is known; then, when it was not stored, until its
 * partition is read from it again. */
struct handover {
    struct list link; /* in park->rewinds */
    struct rv_park *park;
    const struct park_topic *from;
    int32_t partition;
    int64_t offset;
    bool parks; /* to the parking topic */
};

/* A partition of a retry topic that is paused until its next record is due. */
struct hold {
    const struct park_topic *topic;
    int32_t partition;
    int64_t due_ms;   /* wall time */
    int64_t ahead_ms; /* so far the clock of the record was ahead of ours */
    bool is_over;     /* it waits no longer; `ahead_ms` is known of those behind it, too */
};

struct rv_park {
    struct rv_client *client; /* borrowed */
    char *group;              /* owned */
    char *name;               /* owned; in the names of topics */
    int64_t delays_ms[PARK_DELAYS_MAX];
    int delay_count;
    struct park_topic *topics; /* owned; delay_count + 2 an origin: it, its retry topics, parking */
    size_t topic_count;
    struct rv_consumer *consumer;
    struct rv_producer *producer;
    struct rv_park_record *records;    /* owned; what is given out */
    size_t record_count, record_slots; /* of the last rv_park_poll; room */
    struct hold *holds;                /* owned */
    size_t hold_count, hold_slots;
    struct list rewinds;        /* of struct handover: not stored */
    struct rv_error rewind_why; /* of the first of them; code 0: told */
    struct rv_park_stats stats;
    bool closing; /* nothing is committed any more */
    rv_event_fn *on_event;
    void *event_ctx;
};

/* What the headers of a record in a retry topic say. */
struct park_origin {
    struct str topic, group;
    int64_t partition, offset, tries, timestamp_ms;
};

/* False: they are not all there, or make no sense. */
bool park_origin_read(const struct rv_record *r, struct park_origin *ret_origin);
/* The record's headers with ours in the place of those that were there; `out` has room for
 * header_count + PARK_HEADERS. `numbers` keeps the texts. */
struct park_numbers {
    char partition[16], offset[24], tries[16], timestamp[24];
};
size_t park_headers(const struct rv_park *p, const struct rv_park_record *r, const char *reason,
                    struct park_numbers *numbers, struct rv_header *out);
/* "1s,10s,1m". 0: it makes no sense. */
int park_delays(const char *text, int64_t ret_ms[PARK_DELAYS_MAX]);

/* Sets *ret_error (takes NULL) and returns the code. */
int park_fail(struct rv_error *ret_error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void park_event(void *ctx, const struct rv_event *event); /* of the consumer */
