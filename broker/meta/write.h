/* write: one record of the metadata log on its way to the disk, and batches of it on their way back. */
#pragma once

#include "base/clock.h"
#include "broker/log/log.h"
#include "broker/meta/record.h"

/* An append under way; embedded in what waits for it. */
struct meta_write {
    struct log_append append;
    struct buf value;                                /* owned: the record's value */
    uint8_t *batch;                                  /* owned: the batch, borrowed by the log until it is durable */
    void (*durable)(struct meta_write *w, err e);    /* on the loop, later */
};

/* OK: `durable` will come. Otherwise nothing was done. One at a time for each struct; finish before the next. */
err meta_write_submit(struct meta_write *w, struct log *log, const struct clock *clock,
                      const struct meta_record *r, void (*durable)(struct meta_write *w, err e));
void meta_write_finish(struct meta_write *w); /* not while it is under way; takes a zeroed one */
