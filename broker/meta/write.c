#include "broker/meta/write.h"

#include "base/check.h"

enum {
    RECORD_LIMIT = 1 << 20
}; /* bytes; a topic with every setting at its longest has some 130,000 */

static void append_durable(struct log_append *a, err e)
{
    struct meta_write *w =
        (struct meta_write *)(void *)((char *)a - offsetof(struct meta_write, append));
    w->durable(w, e);
}

/* One batch of one record. What memory cannot hold here ends the process, as everywhere in the
 * broker. */
static void build(struct meta_write *w, int64_t now_ms, const struct meta_record *r)
{
    char key[META_KEY_SIZE];
    size_t key_size;
    struct buf value = {0};
    struct batch_builder builder;
    meta_record_encode(r, key, &key_size, &value);
    batch_builder_init(&builder);
    struct bytes key_bytes = {.ptr = (const uint8_t *)key, .len = key_size};
    struct bytes value_bytes = {.ptr = (const uint8_t *)value.ptr, .len = value.len};
    err e = value.failed ? ERR_MEMORY
                         : batch_builder_add(&builder, now_ms, key_bytes, value_bytes, NULL, 0);
    e = e == OK ? batch_builder_seal(&builder, &batch_seal_plain, &w->batch) : e;
    check(e == OK);
    batch_builder_finish(&builder);
    buf_finish(&value);
}

err meta_write_submit(struct meta_write *w, struct log *log, const struct clock *clock,
                      const struct meta_record *r, void (*durable)(struct meta_write *w, err e))
{
    struct batch_scratch scratch = {0};
    enum batch_flaw flaw;
    check(!w->batch.ptr); /* one at a time */
    build(w, clock_wall_ms(clock), r);
    w->durable = durable;
    w->append = (struct log_append){
        .batch = (uint8_t *)w->batch.ptr, .size = w->batch.len, .durable = append_durable};
    /* Our own bytes are checked like anybody's: what cannot be read back must not be written. */
    check(batch_validate(w->append.batch, w->append.size, RECORD_LIMIT, &scratch, &w->append.info,
                         &flaw) == OK);
    batch_scratch_finish(&scratch);
    err e = log_append(log, &w->append);
    if (e != OK) {
        meta_write_finish(w);
    }
    return e;
}

void meta_write_finish(struct meta_write *w)
{
    buf_finish(&w->batch);
    *w = (struct meta_write){0};
}

err meta_batch_end(const void *p, size_t size, size_t *ret_batch_size, int64_t *ret_next_offset)
{
    struct batch_header h;
    if (batch_header_read(p, size, &h) != OK || h.size > size || !batch_crc_is_right(p, h.size)) {
        return ERR_CORRUPT;
    }
    *ret_batch_size = h.size;
    *ret_next_offset = h.base_offset + h.last_offset_delta + 1;
    return OK;
}

err meta_read_init(struct meta_read *r, const void *batch, size_t size)
{
    *r = (struct meta_read){0};
    return batch_iterator_init(&r->iterator, batch, size, RECORD_LIMIT, &r->scratch);
}

err meta_read_next(struct meta_read *r, struct bytes *ret_key, struct bytes *ret_value)
{
    struct record record;
    err e = batch_iterator_next(&r->iterator, &record);
    if (e == OK) {
        *ret_key = record.key;
        *ret_value = record.value;
    }
    return e;
}

void meta_read_finish(struct meta_read *r)
{
    batch_scratch_finish(&r->scratch);
}
