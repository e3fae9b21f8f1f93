/* Consumers: they read on, at times again what they had, wait or do not, and take little or much.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "gen/apis.h"
#include "gen/fetch.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "tests/kit/sim_actors.h"

#include <string.h>

static void fetch(struct sim_world *w, struct sim_actor *a, const int64_t *from, bool waits,
                  bool little)
{
    static const int32_t sizes[] = {1, 400, 2000, 1 << 20};
    struct fetch_request r;
    fetch_request_init(&r);
    r.max_wait_ms = waits ? sim_below(w, 300) : 0;
    r.min_bytes = waits ? sim_below(w, 3) * 500 : 0;
    r.max_bytes = little ? sizes[sim_below(w, 4)] : 1 << 20;
    r.topics = SIM_NEWS(w, fetch_request_topic, SIM_TOPICS);
    r.topics_count = SIM_TOPICS;
    for (int t = 0; t < SIM_TOPICS; t++) {
        r.topics[t].topic = sim_topic(t);
        r.topics[t].partitions = SIM_NEWS(w, fetch_request_partition, sim_topic_count(t));
        for (int32_t i = 0; i < sim_topic_count(t); i++) {
            int64_t offset = from[sim_topic_first(t) + i];
            if (offset >= 0) {
                struct fetch_request_partition *p =
                    &r.topics[t].partitions[r.topics[t].partitions_count++];
                p->partition = i;
                p->fetch_offset = offset;
                p->partition_max_bytes = little ? sizes[sim_below(w, 4)] : 1 << 20;
            }
        }
    }
    struct sim_question *q = sim_ask(w, a, ASKED_FETCH, API_FETCH, 4, 12, &r);
    memcpy(q->offsets, from, sizeof q->offsets);
}

void sim_consumer_act(struct sim_world *w, struct sim_actor *a)
{
    int64_t from[SIM_PARTITIONS];
    if (sim_client_waiting(&a->c) > 2) {
        return;
    }
    for (int p = 0; p < SIM_PARTITIONS; p++) {
        int64_t at = a->position[p];
        from[p] = sim_chance(w, 30) ? -1 : sim_chance(w, 80) ? at : sim_below(w, (int32_t)at + 1);
    }
    fetch(w, a, from, sim_chance(w, 60), true);
}

/* One batch; the offset behind it. `out`: where the records go, by offset; may be NULL. */
static int64_t take_read_batch(struct sim_world *w, int partition, const uint8_t *bytes,
                               size_t size, int64_t high, uint64_t *out)
{
    struct batch_scratch scratch = {0};
    struct batch_iterator it;
    struct record record;
    check(batch_crc_is_right(bytes, size));
    check(!batch_iterator_init(&it, bytes, size, SIZE_MAX, &scratch));
    int32_t n = 0;
    while (batch_iterator_next(&it, &record) == OK) {
        check(record.value.len >= 12 && get_be32(record.value.ptr + 8) == (uint32_t)partition);
        uint64_t id = get_be64(record.value.ptr);
        check(id == model_record_of(it.header.producer_id, it.header.base_sequence + n));
        check(record.offset == it.header.base_offset + n);
        model_read(&w->m, partition, record.offset, id, high);
        if (out) {
            out[record.offset] = id;
        }
        n++;
    }
    check(n == it.header.count && n == it.header.last_offset_delta + 1);
    batch_scratch_finish(&scratch);
    return it.header.base_offset + n;
}

/* The offset behind what was read: whole batches without a gap, the last one may be cut. */
static int64_t take_records(struct sim_world *w, int partition, int64_t offset,
                            const struct fetch_response_partition *r, uint64_t *out)
{
    const uint8_t *p = r->records.ptr;
    size_t left = r->records.len;
    struct batch_header h;
    while (left > 0 && batch_header_read(p, left, &h) == OK && h.size <= left) {
        check(h.base_offset <= offset);
        int64_t next = take_read_batch(w, partition, p, h.size, r->high_watermark, out);
        check(next > offset);
        offset = next;
        p += h.size;
        left -= h.size;
    }
    return offset;
}

void sim_consumer_take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                       const void *answer)
{
    const struct fetch_response *r = answer;
    check(!r->error_code);
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            const struct fetch_response_partition *out = &r->topics[t].partitions[i];
            int p = sim_partition_of(r->topics[t].topic, out->partition_index);
            check(q->offsets[p] >= 0);
            if (out->error_code) {
                check(out->error_code == KERR_NOT_LEADER_OR_FOLLOWER ||
                      out->error_code == KERR_KAFKA_STORAGE_ERROR);
                continue;
            }
            model_high(&w->m, p, out->high_watermark, q->high[p]);
            int64_t end = take_records(w, p, q->offsets[p], out, NULL);
            a->position[p] = end > a->position[p] ? end : a->position[p];
        }
    }
}

/* ---- looking at everything */

void sim_actors_look(struct sim_world *w)
{
    struct sim_actor *a = mem_need_zero(1, sizeof *a);
    uint64_t *found = mem_need(MODEL_OFFSETS * sizeof *found);
    sim_client_init(&a->c, &w->k);
    sim_client_open(&a->c, sim_below(w, w->k.shard_count));
    for (int p = 0; p < SIM_PARTITIONS; p++) {
        int64_t at = 0;
        int64_t high = 1;
        while (at < high) {
            int64_t from[SIM_PARTITIONS];
            uint32_t id;
            memset(from, 0xff, sizeof from);
            from[p] = at;
            fetch(w, a, from, false, false);
            broker_kit_settle(&w->k);
            const struct fetch_response *r = sim_client_take(&a->c, &id);
            check(r && r->topics_count == SIM_TOPICS);
            const struct fetch_response_topic *topic = &r->topics[p < SIM_FIRST_OF_B ? 0 : 1];
            check(topic->partitions_count == 1 && !topic->partitions[0].error_code);
            high = topic->partitions[0].high_watermark;
            model_high(&w->m, p, high, w->m.high[p]);
            at = take_records(w, p, at, &topic->partitions[0], found);
        }
        model_whole(&w->m, p, found, high);
    }
    sim_client_finish(&a->c);
    mem_free(found);
    mem_free(a);
}
