/* produce_cut: a Produce frame that is not all here is cut in two behind a whole partition, so that
 * what is there can be handled while the rest arrives. Bytes in, bytes out; nothing is kept.
 *
 *     header · transactional id · acks · timeout · N topics
 *         ... · topic · M partitions
 *             ... · partition | partition ...
 *                             cut
 *
 * The front becomes a whole Produce frame where it lies: its counts say less, and where the version
 * has tagged fields, none follow. The rest becomes the beginning of a Produce frame of its own:
 * the same up to the topics, fewer of those, first of them the topic that was cut in, with the
 * partitions of it that are left, which may be none. It is cut again by the same rule. A count
 * keeps the bytes that it had: a varint that became small enough for fewer is padded, which every
 * reader of varints takes.
 *
 * What does not decode is not cut. Whatever comes behind a cut may still turn out not to.
 */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A count, or a length, where it lies. */
struct cut_number {
    size_t position; /* of the frame */
    size_t size;     /* bytes that it takes there */
};

struct produce_cut {
    bool flexible;

    /* where it can be cut */
    size_t end; /* position behind the last whole partition; 0: there is none */
    struct cut_number topics;
    struct cut_number partitions; /* of the topic that is cut in, behind its name */
    size_t topic;                 /* position of that topic */
    int32_t topics_done;          /* that the front has, the one that is cut in included */
    int32_t topics_left;          /* that the rest has, likewise */
    int32_t partitions_done;
    int32_t partitions_left; /* may be 0 */

    /* the partition whose records have begun and are not all here */
    bool open; /* there is one, behind all that is whole */
    struct str name;
    struct uuid id;
    int32_t index;
    struct cut_number length; /* of its records */
    size_t records;           /* their position */
    size_t records_size;      /* their bytes, as announced */
};

/* Looks at the first `have` bytes of a frame of `need`. False: not a Produce, or it does not
 * decode; arrays of more elements than `array_max` do not. */
bool produce_cut_find(const uint8_t *frame, size_t have, size_t need, int32_t array_max,
                      struct produce_cut *ret_cut);

/* Bytes of the rest's beginning: how much longer the rest is than what is taken away. */
size_t produce_cut_head_size(const struct produce_cut *cut);

/* Cuts at `end`, which is not 0. `rest` gets produce_cut_head_size + have - end bytes. Returns the
 * size of the front. */
size_t produce_cut_make(const struct produce_cut *cut, uint8_t *frame, size_t have, uint8_t *rest);

/* Makes the open partition's records end after `size` bytes: fewer than were announced. */
void produce_cut_shorten(const struct produce_cut *cut, uint8_t *frame, size_t size);
