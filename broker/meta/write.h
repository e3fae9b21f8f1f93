/* write: one record of the metadata log on its way to the disk, and batches of it on their way
 * back. */
#pragma once

#include "base/clock.h"
#include "broker/log/log.h"
#include "broker/meta/record.h"
#include "protocol/batch.h"

/* An append under way; embedded in what waits for it. */
struct meta_write {
    struct log_append append;
    struct buf batch; /* owned; borrowed by the log until it is durable */
    void (*durable)(struct meta_write *w, err e); /* on the loop, later */
};

/* OK: `durable` will come. Otherwise nothing was done. One at a time for each struct; finish before
 * the next. */
err meta_write_submit(struct meta_write *w, struct log *log, const struct clock *clock,
                      const struct meta_record *r, void (*durable)(struct meta_write *w, err e));
void meta_write_finish(struct meta_write *w); /* not while it is under way; takes a zeroed one */

/* The batch at p, of `size` bytes that are there: its size, and the offset after its last record.
 * ERR_CORRUPT. */
err meta_batch_end(const void *p, size_t size, size_t *ret_batch_size, int64_t *ret_next_offset);

/* The records of one batch, key and value; what they give lives until the next call. */
struct meta_read {
    struct batch_scratch scratch;
    struct batch_iterator iterator;
};
err meta_read_init(struct meta_read *r, const void *batch, size_t size);
err meta_read_next(struct meta_read *r, struct bytes *ret_key,
                   struct bytes *ret_value); /* ERR_NOT_FOUND: no more */
void meta_read_finish(struct meta_read *r);  /* also after a failed init */
