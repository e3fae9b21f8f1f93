/* Data directories that Apache Kafka 4.3.1 wrote (tests/data/kafka-4.3.1-*.tar.zst), opened by our
 * log: one that was stopped, one that was killed while producers were at work. What is read back is
 * compared with the manifest beside each: the records that Kafka's own consumer read after Kafka's
 * own recovery. Needs tar and zstd. */
#include "base/check.h"
#include "base/mem.h"
#include "broker/log/manager.h"
#include "tests/kit/sim_clock.h"
#include "tests/kit/sim_worker.h"
#include "tests/kit/temp_dir.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LINE_SIZE = 4096, READ_SIZE = 1 << 21, RECORD_LIMIT = 1 << 24 };

/* Logs of a Kafka directory under our manager, on the real store. */
struct kafka_data {
    char dir[TEMP_DIR_SIZE];
    char data[TEMP_DIR_SIZE + 8];
    struct store store;
    struct sim_clock clock;
    struct rng rng;
    struct timers timers;
    struct sim_worker workers[3]; /* writer, syncer, reader */
    struct diag diag;
    struct log_manager *m;
    char manifest[64];
    int64_t records; /* compared so far */
};

static void no_line(void *ctx, const char *line, size_t size)
{
    (void)ctx;
    (void)line;
    (void)size;
}

static void data_init(struct kafka_data *d, const char *name)
{
    char command[TEMP_DIR_SIZE + 128];
    memset(d, 0, sizeof *d);
    temp_dir_make(d->dir);
    snprintf(command, sizeof command, "tar -C '%s' --zstd -xf tests/data/kafka-4.3.1-%s.tar.zst",
             d->dir, name);
    assert_int_equal(system(command), 0);
    snprintf(d->data, sizeof d->data, "%s/data", d->dir);
    snprintf(d->manifest, sizeof d->manifest, "tests/data/kafka-4.3.1-%s.manifest.tsv", name);
    sim_clock_init(&d->clock, 1800000000000);
    rng_init(&d->rng, 1);
    timers_init(&d->timers);
    for (int i = 0; i < 3; i++) {
        sim_worker_init(&d->workers[i]);
    }
    d->diag = (struct diag){.level = DIAG_ERROR, .clock = &d->clock.clock, .write = no_line};
}

static void data_finish(struct kafka_data *d)
{
    timers_finish(&d->timers);
    temp_dir_remove(d->dir);
}

static void data_start(struct kafka_data *d)
{
    assert_int_equal(store_open_posix(d->data, &d->store), OK);
    const struct log_manager_options o = {
        .store = &d->store,
        .clock = &d->clock.clock,
        .diag = &d->diag,
        .timers = &d->timers,
        .writer = &d->workers[0].worker,
        .syncer = &d->workers[1].worker,
        .reader = &d->workers[2].worker,
        .leader_epoch = 1,
        .max_open_files = 16,
        .producer_id_expiration_ms = 86400000,
        .retention_check_interval_ms = 300000,
        .checkpoint_interval_ms = 60000,
    };
    d->m = log_manager_create(&o);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void data_stop(struct kafka_data *d)
{
    struct sim_worker *const all[] = {&d->workers[0], &d->workers[1], &d->workers[2]};
    bool stopped = false;
    log_manager_stop(d->m, set_true, &stopped);
    sim_workers_drain(all, 3, &d->rng);
    assert_true(stopped);
    log_manager_destroy(d->m);
    store_close_posix(&d->store);
}

/* The id that the partition's directory says it has. */
static struct uuid topic_id(const struct kafka_data *d, const char *topic, int partition)
{
    char path[TEMP_DIR_SIZE + 128];
    char text[64] = "";
    struct uuid id = {{0}};
    snprintf(path, sizeof path, "%s/%s-%d/partition.metadata", d->data, topic, partition);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "version: 0 topic_id: %63s", text), 1);
    fclose(f);
    assert_int_equal(uuid_from_text(str_of(text), &id), OK);
    return id;
}

static struct log *open_partition(struct kafka_data *d, const char *topic, int partition,
                                  bool clean)
{
    const struct log_config config = {
        .segment_bytes = 1 << 20,
        .segment_ms = 7LL * 24 * 3600 * 1000,
        .retention_bytes = -1,
        .retention_ms = -1,
        .file_delete_delay_ms = 1000,
        .index_interval_bytes = 4096,
        .index_max_bytes = 10485760,
        .flush_messages = INT64_MAX,
        .flush_ms = INT64_MAX,
        .delete_old = true,
    };
    struct uuid id = topic_id(d, topic, partition);
    assert_int_equal(log_manager_open_log(d->m, str_of(topic), id, partition, &config, clean), OK);
    struct log *log = log_manager_find(d->m, id, partition);
    assert_non_null(log);
    return log;
}

/* ---- our reading of a partition, as lines of the manifest without the hash of the value */

struct reading {
    const char *topic;
    int partition;
    struct buf lines; /* owned */
};

static void add_record(struct reading *r, const struct batch_header *h, const struct record *record)
{
    buf_printf(&r->lines, "%s\t%d\t%" PRId64 "\t%s\t%" PRId64 "\t", r->topic, r->partition,
               record->offset, h->attributes & BATCH_ATTRIBUTE_APPEND_TIME ? "append" : "create",
               record->timestamp);
    for (size_t i = 0; i < record->key.len; i++) {
        buf_printf(&r->lines, "%02x", record->key.ptr[i]);
    }
    buf_printf(&r->lines, "%s\t", !record->key.ptr ? "-" : record->key.len ? "" : "empty");
    if (record->value.ptr) {
        buf_printf(&r->lines, "%zu", record->value.len);
    } else {
        buf_printf(&r->lines, "-");
    }
    buf_printf(&r->lines, "\t%" PRId32 "\n", record->header_count);
}

/* Every batch is checked whole. Control batches have no line. */
static void add_batch(struct reading *r, const uint8_t *p, const struct batch_header *h,
                      struct batch_scratch *scratch)
{
    struct batch_iterator it;
    struct record record;
    assert_true(batch_crc_is_right(p, h->size));
    if (h->attributes & BATCH_ATTRIBUTE_CONTROL) {
        return;
    }
    assert_int_equal(batch_iterator_init(&it, p, h->size, RECORD_LIMIT, scratch), OK);
    err e;
    while ((e = batch_iterator_next(&it, &record)) == OK) {
        add_record(r, h, &record);
    }
    assert_int_equal(e, ERR_NOT_FOUND);
}

static void read_partition(struct log *log, struct reading *r)
{
    struct batch_scratch scratch = {0};
    uint8_t *window = mem_need(READ_SIZE);
    int64_t offset = log_start_offset(log);
    size_t got = 1;
    while (got > 0) {
        assert_int_equal(log_read_blocking(log, offset, window, READ_SIZE, &got), OK);
        for (size_t at = 0; at < got;) {
            struct batch_header h;
            assert_int_equal(batch_header_read(window + at, got - at, &h), OK);
            assert_int_equal(h.base_offset, offset);
            add_batch(r, window + at, &h, &scratch);
            offset = h.base_offset + h.last_offset_delta + 1;
            at += h.size;
        }
    }
    assert_int_equal(offset, log_end_offset(log));
    mem_free(window);
    batch_scratch_finish(&scratch);
}

/* ---- the manifest */

/* The lines of one partition, without the value's hash, the last column but one. */
static void manifest_lines(struct kafka_data *d, const char *topic, int partition, struct buf *out)
{
    char line[LINE_SIZE];
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s\t%d\t", topic, partition);
    FILE *f = fopen(d->manifest, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, prefix, strlen(prefix)) == 0) {
            char *last = strrchr(line, '\t');
            *last = 0;
            *strrchr(line, '\t') = 0;
            buf_printf(out, "%s\t%s", line, last + 1);
            d->records++;
        }
    }
    fclose(f);
}

/* Kafka's consumer read committed records: those of the transaction that was aborted are not in the
 * manifest. */
static void drop_aborted(struct buf *lines)
{
    static const char key[] = "\t7432\t"; /* "t2" */
    struct buf kept = {0};
    char *line = (char *)buf_text(lines);
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (!strstr(line, key)) {
            buf_printf(&kept, "%s\n", line);
        }
    }
    buf_finish(lines);
    *lines = kept;
}

static void compare_partition(struct kafka_data *d, const char *topic, int partition, int64_t low,
                              int64_t high, bool clean)
{
    struct buf want = {0};
    struct reading ours = {.topic = topic, .partition = partition};
    struct log *log = open_partition(d, topic, partition, clean);
    assert_int_equal(log_start_offset(log), low);
    assert_int_equal(log_end_offset(log), high);
    assert_int_equal(log_high_watermark(log), high);
    manifest_lines(d, topic, partition, &want);
    read_partition(log, &ours);
    if (strcmp(topic, "transactional") == 0) {
        drop_aborted(&ours.lines);
    }
    assert_string_equal(buf_text(&ours.lines), buf_text(&want));
    buf_finish(&want);
    buf_finish(&ours.lines);
}

static void compare_all(struct kafka_data *d, bool clean)
{
    char line[LINE_SIZE];
    char topic[64];
    int partition;
    int64_t low;
    int64_t high;
    int partitions = 0;
    d->records = 0;
    FILE *f = fopen(d->manifest, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "end %63s %d %" SCNd64 " %" SCNd64, topic, &partition, &low, &high) == 4) {
            compare_partition(d, topic, partition, low, high, clean);
            partitions++;
        }
    }
    fclose(f);
    assert_true(partitions > 20);
    assert_true(d->records > 500);
}

/* Opened as it was left, then once more after our own clean stop. */
static void opened_twice(const char *name, bool clean)
{
    struct kafka_data d;
    data_init(&d, name);
    data_start(&d);
    compare_all(&d, clean);
    data_stop(&d);
    data_start(&d);
    compare_all(&d, true);
    data_stop(&d);
    data_finish(&d);
}

static void a_directory_that_kafka_stopped_is_read_as_kafka_reads_it(void **state)
{
    (void)state;
    opened_twice("clean", true);
}

static void a_directory_that_kafka_stopped_is_scanned_whole_to_the_same(void **state)
{
    (void)state;
    opened_twice("clean", false);
}

static void a_directory_that_kafka_was_killed_over_is_recovered_as_kafka_recovers_it(void **state)
{
    (void)state;
    opened_twice("killed", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_that_kafka_stopped_is_read_as_kafka_reads_it),
        cmocka_unit_test(a_directory_that_kafka_stopped_is_scanned_whole_to_the_same),
        cmocka_unit_test(a_directory_that_kafka_was_killed_over_is_recovered_as_kafka_recovers_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
