/* The offset checkpoints of the data directory, in Kafka's form (text_files.c), each replaced
 * whole. One write is under way at a time; what is asked for meanwhile is the next one, together.
 *
 *   recovery-point-offset-checkpoint   below it nothing is scanned after a crash
 *   log-start-offset-checkpoint        the start, of logs whose first segment begins below it
 *   replication-offset-checkpoint      high watermarks; for Kafka's tools, nobody here reads it
 *   durable-offset-checkpoint          below it all was durable, and nothing is a torn tail: written
 *                                      before the journal, which says so too, is cleared. Kafka has
 *                                      no such file: its high watermarks are not durable. So it has
 *                                      a checksum
 *
 * Invariants:
 *   O1  what a file says of a name is of the log that has it: a name that is in a file, or in one
 *       that is being written, is taken out, durably, before another log is made under it (a start
 *       does so for the logs that it makes)
 *   O2  a start offset moves when the file that says so is durable, not before
 *   O3  how far a log is durable is said here, or by its recovery point, before a file of the
 *       journal that says so is cleared
 *   O4  when that has rotted, nothing is a torn tail: the file is replaced whole, so no crash leaves
 *       it so. Believing less of it would cut what was durable, believing what is still legible
 *       could fence a sound log at an offset that it never had, and for good; so none of it counts,
 *       a start after a crash fences a log where its bytes end in something that is not a batch, and
 *       the file is written anew with what the start found. A log whose bytes end with a batch ends
 *       there: nothing says that there was more
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const names[OFFSET_FILES] = {
    "recovery-point-offset-checkpoint", "log-start-offset-checkpoint",
    "replication-offset-checkpoint", "durable-offset-checkpoint"};

enum { NAME_SIZE = 64 };

/* Each shard has files of its own, as it alone knows how far its logs are. */
static void file_name(const struct log_manager *m, int file, char name[NAME_SIZE])
{
    if (m->o.shard == 0) {
        snprintf(name, NAME_SIZE, "%s", names[file]);
    } else {
        snprintf(name, NAME_SIZE, "%s.%d", names[file], m->o.shard);
    }
}

void offset_files_init(struct log_manager *m)
{
    struct offset_files *f = &m->offset_files;
    list_init(&f->waiting);
    list_init(&f->writing);
    for (int i = 0; i < OFFSET_FILES; i++) {
        map_init(&f->there[i], m->logs.seed);
        map_init(&f->next[i], m->logs.seed);
    }
}

void offset_files_finish(struct log_manager *m)
{
    struct offset_files *f = &m->offset_files;
    check(list_empty(&f->waiting) && list_empty(&f->writing));
    for (int i = 0; i < OFFSET_FILES; i++) {
        map_finish(&f->there[i]);
        map_finish(&f->next[i]);
        buf_finish(&f->text[i]);
    }
}

err offset_files_read(struct log_manager *m)
{
    struct offset_files *f = &m->offset_files;
    err failed = OK;
    if (f->read) {
        return OK;
    }
    for (int i = 0; i < OFFSET_FILES; i++) {
        char name[NAME_SIZE];
        file_name(m, i, name);
        err e = i == OFFSETS_DURABLE ? durable_offsets_read(m->o.store, name, &f->there[i])
                                     : offsets_file_read(m->o.store, name, &f->there[i]);
        /* Rot there costs a scan, and brings deleted records back. What cannot be read now may be
         * there at the next try. */
        failed = e && e != ERR_NOT_FOUND && e != ERR_CORRUPT ? e : failed;
        if (e == ERR_CORRUPT && i == OFFSETS_DURABLE) { /* O4 */
            f->ends_unknown = f->stale = true;
            diag_log(m->o.diag, DIAG_ERROR, "durable_ends_rotten",
                     "file=%s effect=\"no log is cut at this start\"", name);
        } else if (e && e != ERR_NOT_FOUND) {
            diag_log(m->o.diag, DIAG_WARN, "checkpoint_unreadable", "file=%s error=\"%s\"", name,
                     err_text(e));
        }
    }
    f->read = failed == OK;
    return failed;
}

int64_t offset_files_take(const struct log_manager *m, enum offset_file file, struct log *log,
                          int64_t end_offset)
{
    int64_t value = checkpoint_value(&m->offset_files.there[file], log->dir, 0);
    if (value > end_offset) {
        log->stale = true; /* O1: another log's of that name, or all of it is missing */
        diag_log(m->o.diag, DIAG_WARN, "checkpoint_beyond_end",
                 "file=%s dir=%s offset=%lld end=%lld", names[file], log->dir, (long long)value,
                 (long long)end_offset);
        return 0;
    }
    return value;
}

unsigned offset_files_naming(const struct log_manager *m, const char *dir)
{
    const struct offset_files *f = &m->offset_files;
    unsigned files = 0;
    for (int i = 0; i < OFFSET_FILES; i++) {
        bool named =
            map_get_str(&f->there[i], str_of(dir)) || map_get_str(&f->next[i], str_of(dir));
        files |= named ? 1u << i : 0;
    }
    return files;
}

/* ---- writing */

static void compose(struct log_manager *m, enum offset_file file)
{
    struct buf lines = {0};
    struct offset_files *f = &m->offset_files;
    int count = 0;
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        const struct log *log = map_value(e);
        int64_t start = log->asked_start > log->start_offset ? log->asked_start : log->start_offset;
        const int64_t values[OFFSET_FILES] = {log->recovery_point, start, log->durable.offset,
                                              log->durable.offset};
        if (file == OFFSETS_START && start <= log->segments[0]->base_offset) {
            continue;
        }
        buf_printf(&lines, "%.*s %d %" PRId64 "\n", STR_ARG(log->topic), log->partition,
                   values[file]);
        check(map_put_str(&f->next[file], str_of(log->dir),
                          (void *)(uintptr_t)(values[file] + 1)) == OK);
        count++;
    }
    const bool sealed = file == OFFSETS_DURABLE;
    f->text[file].len = 0;
    buf_printf(&f->text[file], "%d\n%d\n", sealed, count);
    buf_add(&f->text[file], lines.ptr, lines.len);
    if (sealed) {
        offsets_text_seal(&f->text[file]);
    }
    check(!f->text[file].failed && !lines.failed);
    buf_finish(&lines);
}

static void compose_all(struct log_manager *m, unsigned files)
{
    m->offset_files.files = files;
    for (int i = 0; i < OFFSET_FILES; i++) {
        if (files & 1u << i) {
            compose(m, (enum offset_file)i);
        }
    }
}

static err replace_all(struct log_manager *m) /* worker, or the start */
{
    struct offset_files *f = &m->offset_files;
    err e = OK;
    for (int i = 0; i < OFFSET_FILES && !e; i++) {
        if (f->files & 1u << i) {
            char name[NAME_SIZE];
            file_name(m, i, name);
            e = store_replace_file(m->o.store, name, f->text[i].ptr, f->text[i].len);
        }
    }
    return e;
}

/* What may be in the files now: after a failure, the old and the new. */
static void take_written(struct log_manager *m, err e)
{
    struct offset_files *f = &m->offset_files;
    for (int i = 0; i < OFFSET_FILES; i++) {
        if (!(f->files & 1u << i)) {
            continue;
        }
        if (!e) {
            struct map old = f->there[i];
            f->there[i] = f->next[i];
            map_finish(&old);
        } else {
            for (struct map_entry *at = map_first(&f->next[i]); at; at = map_next(at)) {
                struct bytes key = map_key(at);
                check(map_put(&f->there[i], key.ptr, key.len, map_value(at)) == OK);
            }
            map_finish(&f->next[i]);
        }
        map_init(&f->next[i], m->logs.seed);
    }
    f->files = 0;
}

static void begin(struct log_manager *m);

static void write_run(struct work *work)
{
    struct offset_files *f = list_entry(work, struct offset_files, work);
    struct log_manager *m = list_entry(f, struct log_manager, offset_files);
    f->result = replace_all(m);
}

static void write_done(struct work *work)
{
    struct offset_files *f = list_entry(work, struct offset_files, work);
    struct log_manager *m = list_entry(f, struct log_manager, offset_files);
    struct list written;
    err e = f->result;
    take_written(m, e);
    list_init(&written);
    list_splice(&written, &f->writing);
    f->under_way = false;
    list_each(node, &written)
    {
        const struct offset_files_wait *w = list_entry(node, struct offset_files_wait, link);
        if (w->log) {
            w->log->asked_start = 0;
        }
    }
    for (struct list *node; (node = list_pop(&written));) {
        struct offset_files_wait *w = list_entry(node, struct offset_files_wait, link);
        w->done(w, e);
    }
    begin(m);
    manager_work_done(m);
}

static void begin(struct log_manager *m)
{
    struct offset_files *f = &m->offset_files;
    unsigned files = 0;
    if (f->under_way || list_empty(&f->waiting)) {
        return;
    }
    f->under_way = true;
    list_splice(&f->writing, &f->waiting);
    list_each(node, &f->writing)
    {
        const struct offset_files_wait *w = list_entry(node, struct offset_files_wait, link);
        files |= w->files;
        if (w->log && w->start > w->log->asked_start) {
            w->log->asked_start = w->start;
        }
    }
    compose_all(m, files);
    f->work.run = write_run;
    f->work.done = write_done;
    manager_work(m, m->o.reader, &f->work);
}

void offset_files_write(struct log_manager *m, struct offset_files_wait *w)
{
    list_push(&m->offset_files.waiting, &w->link);
    begin(m);
}

err offset_files_mend(struct log_manager *m)
{
    if (!m->offset_files.stale) {
        return OK;
    }
    m->offset_files.stale = false;
    compose_all(m, OFFSET_FILES_ALL);
    err e = replace_all(m);
    take_written(m, e);
    return e;
}

/* ---- DeleteRecords */

static void deleted(struct offset_files_wait *w, err e)
{
    struct log_deletion *d = list_entry(w, struct log_deletion, wait);
    struct log *log = d->wait.log;
    if (!e && log->closed && !log->m->stopping) {
        e = ERR_CLOSED; /* the topic went meanwhile */
    }
    if (!e && d->offset > log->start_offset) {
        log->start_offset = d->offset;
        log_drop_below_start(log);
        log_notify(log, false);
    }
    d->start_offset = log->start_offset;
    d->wait.log = NULL;
    d->result = e;
    d->done(d);
    log_unref(log);
}

err log_delete_records(struct log *log, struct log_deletion *d)
{
    struct log_manager *m = log->m;
    if (log->closed || m->stopping) {
        return ERR_CLOSED;
    }
    if (m->dead) {
        return ERR_IO;
    }
    if (d->offset < 0 || d->offset > log->durable.offset) {
        return ERR_RANGE;
    }
    if (d->offset <= log->start_offset) {
        return ERR_EXISTS;
    }
    log_ref(log);
    d->wait = (struct offset_files_wait){
        .files = 1u << OFFSETS_START, .log = log, .start = d->offset, .done = deleted};
    offset_files_write(m, &d->wait);
    return OK;
}
