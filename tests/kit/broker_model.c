#include "tests/kit/broker_model.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

void broker_model_init(struct broker_model *m)
{
    memset(m, 0, sizeof *m);
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        map_init(&m->places[p], 1);
        for (int g = 0; g < MODEL_GROUPS; g++) {
            m->committed[g][p] = -1;
            m->sent[g][p] = -1;
        }
    }
}

void broker_model_finish(struct broker_model *m)
{
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        map_finish(&m->places[p]);
    }
}

static void say(const char *what, int partition, int64_t offset, uint64_t is, uint64_t was)
{
    fprintf(stderr, "%s: partition %d offset %lld: %lld/%u, was %lld/%u\n", what, partition,
            (long long)offset, (long long)(is >> 32) - 1, (unsigned)is, (long long)(was >> 32) - 1,
            (unsigned)was);
}

void model_given(struct broker_model *m, int64_t producer)
{
    check(producer >= 0 && producer < MODEL_PRODUCERS);
    check(!m->given[producer]);
    m->given[producer] = true;
}

/* An offset has one record, and a record one offset; but what was only written may go. */
static void place(struct broker_model *m, int partition, int64_t offset, uint64_t record)
{
    check(offset >= 0 && offset < MODEL_OFFSETS && record);
    uint64_t held = m->held[partition][offset];
    uint64_t written = m->written[partition][offset];
    if ((held && held != record) || (written && written != record)) {
        say("another record", partition, offset, record, held ? held : written);
        check(false && "no offset is given twice");
    }
    uintptr_t at = (uintptr_t)map_get(&m->places[partition], &record, sizeof record);
    if (at && (int64_t)at != offset + 1) {
        say("twice", partition, offset, record, record);
        check(false && "a record stands once");
    }
    check(map_put(&m->places[partition], &record, sizeof record, (void *)(uintptr_t)(offset + 1)) ==
          OK);
}

void model_acked(struct broker_model *m, int partition, int64_t offset, uint64_t record,
                 bool durable)
{
    place(m, partition, offset, record);
    m->written[partition][offset] = record;
    m->acks++;
    if (durable) {
        m->held[partition][offset] = record;
        m->high[partition] = offset >= m->high[partition] ? offset + 1 : m->high[partition];
    }
}

void model_read(struct broker_model *m, int partition, int64_t offset, uint64_t record,
                int64_t high)
{
    check(offset < high); /* nothing is read that is not durable */
    place(m, partition, offset, record);
    m->held[partition][offset] = record;
    m->reads++;
}

void model_high(struct broker_model *m, int partition, int64_t high, int64_t before)
{
    if (high < before) {
        say("the high watermark went back", partition, high, 0, 0);
        check(false && "the high watermark never goes back");
    }
    m->high[partition] = high > m->high[partition] ? high : m->high[partition];
}

void model_committed(const struct broker_model *m, int group, int partition, int64_t offset,
                     int64_t before)
{
    if (offset < before || offset > m->sent[group][partition]) {
        fprintf(stderr, "group %d partition %d: committed %lld, of %lld to %lld\n", group,
                partition, (long long)offset, (long long)before,
                (long long)m->sent[group][partition]);
        check(false && "a committed offset never goes back");
    }
}

void model_power_cut(struct broker_model *m)
{
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        for (int i = 0; i < MODEL_OFFSETS; i++) {
            uint64_t record = m->written[p][i];
            if (record && !m->held[p][i]) {
                map_remove(&m->places[p], &record, sizeof record);
                m->holed[(record >> 32) - 1] = true;
            }
            m->written[p][i] = m->held[p][i];
        }
    }
}

void model_whole(const struct broker_model *m, int partition, const uint64_t *records,
                 int64_t count)
{
    uint32_t next[MODEL_PRODUCERS] = {0};
    for (int64_t i = 0; i < MODEL_OFFSETS; i++) {
        uint64_t must = m->held[partition][i] ? m->held[partition][i] : m->written[partition][i];
        if (must && (i >= count || records[i] != must)) {
            say("lost", partition, i, i < count ? records[i] : 0, must);
            check(false && "what was acknowledged or read is there");
        }
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t producer = (int64_t)(records[i] >> 32) - 1;
        check(producer >= 0 && producer < MODEL_PRODUCERS && m->given[producer]);
        uint32_t sequence = (uint32_t)records[i];
        if (sequence < next[producer] || (sequence > next[producer] && !m->holed[producer])) {
            say("out of order", partition, i, records[i], (uint64_t)next[producer]);
            check(false && "a producer's records are in order, each once, without a gap");
        }
        next[producer] = sequence + 1;
    }
}
