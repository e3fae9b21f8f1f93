/* range: a part of a topic, for consume and copy: which partitions, from where, up to where. */
#pragma once

#include "tools/terminal.h"
#include "tools/tool.h"

struct place {
    bool by_time;
    int64_t at; /* RV_START, RV_END, an offset; or milliseconds */
};

/* start, end, an offset, @TIME. */
bool place_parse(const char *text, struct place *ret_place);

struct range_part {
    bool wanted;
    int64_t from;    /* offset */
    int64_t until;   /* offset behind; INT64_MAX: no end */
    int64_t reached; /* offset behind the last record that was taken; -1: none was */
    int64_t due;     /* of consume: the same, as long as it is not committed; -1 */
};

struct range {
    const struct tool *tool;
    const char *topic;
    struct place from;
    bool has_until;
    struct place until;
    int64_t only;             /* partition; -1: all */
    int64_t left;             /* records to take; -1: no limit */
    int64_t taken;            /* records */
    struct range_part *parts; /* owned; by partition */
    int32_t count;
};

/* From -o, --until, --partition and -n. EXIT_USAGE: said what is wrong. */
int range_init(struct range *r, const struct tool *t, const char *topic);
/* Asks the brokers where all that is, now. */
int range_find(struct range *r);
void range_finish(struct range *r);

/* The consumer reads it from now on. */
int range_assign(const struct range *r, struct rv_consumer *consumer);

/* NULL: out of memory. Partitions may be added while a topic is read. */
struct range_part *range_part(struct range *r, int32_t partition);
bool range_is_over(const struct range *r, struct rv_consumer *consumer);
int64_t range_total(const struct range *r); /* offsets, at most -n; 0: it has no end */

/* "12 records; next are partition 0 offset 7, ...": on standard error. */
void range_say(const struct range *r, const char *what);
