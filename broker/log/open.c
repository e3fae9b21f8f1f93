/* The start of a log manager, blocking: logs are opened, and then what the journal held is cleared.
 *
 * Each log is recovered by itself (recovery.c), and a start has nothing else to do: the three workers
 * and the loop's thread share the logs that are opened together, and each takes the next one when it
 * is done with one, so that on a busy machine none waits for another's share. A log belongs to who took
 * it until it is open; of the manager the others read what does not change meanwhile (its options, the
 * journal's replay, the offset checkpoints), and what they find is taken over when all have ended.
 */
#include "broker/log/compact.h"

#include "base/mem.h"

#include <stdatomic.h>

enum { OPENERS = 3 }; /* the workers */

struct opening {
    struct log_manager *m;
    atomic_size_t next; /* index of the first of m->expected that nobody has taken */
    bool clean;
};

struct opener {
    struct work work;
    struct opening *opening; /* shared */
};

void log_manager_expect_log(struct log_manager *m, struct str topic, struct uuid id,
                            int32_t partition, const struct log_config *config)
{
    if (m->expected_count == m->expected_slots) {
        m->expected_slots = m->expected_slots ? m->expected_slots * 2 : 64;
        m->expected = mem_need_resize(m->expected, m->expected_slots * sizeof *m->expected);
    }
    m->expected[m->expected_count++] = (struct expected_log){
        .log = log_create(m, topic, id, partition, config), .result = ERR_CLOSED};
}

void expected_forget(struct log_manager *m)
{
    for (size_t i = 0; i < m->expected_count; i++) {
        manager_free_log(m->expected[i].log);
    }
    mem_free(m->expected);
    m->expected = NULL;
    m->expected_count = m->expected_slots = 0;
}

static void open_next(struct opening *o)
{
    struct log_manager *m = o->m;
    err e = OK;
    for (size_t i; !e && (i = atomic_fetch_add(&o->next, 1)) < m->expected_count;) {
        e = log_recover(m->expected[i].log, o->clean);
        m->expected[i].result = e;
    }
}

static void open_run(struct work *work)
{
    open_next(list_entry(work, struct opener, work)->opening);
}

static void open_done(struct work *work)
{
    (void)work; /* the loop's thread waits for all that the worker has */
}

static void recover_all(struct log_manager *m, bool clean)
{
    struct worker *workers[OPENERS] = {m->o.reader, m->o.syncer, m->o.writer};
    struct opener openers[OPENERS];
    struct opening o = {.m = m, .clean = clean};
    const size_t others = m->expected_count > 0 ? m->expected_count - 1 : 0;
    const size_t count = others < OPENERS ? others : OPENERS;
    for (size_t i = 0; i < count; i++) {
        openers[i] = (struct opener){
            .work = {.run = open_run, .done = open_done},
              .opening = &o
        };
        worker_submit(workers[i], &openers[i].work);
    }
    open_next(&o);
    for (size_t i = 0; i < count; i++) {
        worker_drain(workers[i]);
    }
}

/* What the recovery found, and said of its log alone. */
static void take_recovered(struct log_manager *m, struct log *log, bool clean)
{
    const int64_t scanned_bytes = log->appended_bytes;
    log->appended_bytes = 0;
    log_note_growth(log, scanned_bytes); /* the next start need not do it again */
    m->offset_files.stale = m->offset_files.stale || log->stale;
    m->unclean = m->unclean || !clean;
    manager_add_log(m, log);
}

err log_manager_open_expected(struct log_manager *m, bool clean)
{
    err e = offset_files_read(m);
    e = e || m->journal.opened ? e : journal_open(&m->journal, clean);
    if (e) {
        diag_log(m->o.diag, DIAG_ERROR, "logs_not_opened", "error=\"%s\"", err_text(e));
        expected_forget(m);
        return e;
    }
    recover_all(m, clean);
    for (size_t i = 0; i < m->expected_count; i++) {
        struct log *log = m->expected[i].log;
        const err failed = m->expected[i].result;
        if (!failed) {
            take_recovered(m, log, clean);
            continue;
        }
        if (failed != ERR_CLOSED) { /* it was tried */
            diag_log(m->o.diag, DIAG_ERROR, "log_open_failed", "dir=%s error=\"%s\"", log->dir,
                     err_text(failed));
            e = e ? e : failed;
        }
        manager_free_log(log);
    }
    m->expected_count = 0;
    return e;
}

err log_manager_open_log(struct log_manager *m, struct str topic, struct uuid id, int32_t partition,
                         const struct log_config *config, bool clean)
{
    log_manager_expect_log(m, topic, id, partition, config);
    return log_manager_open_expected(m, clean);
}

/* R4: what the journal held is in segments that are synced; how far, and that a log was fenced, is
 * said on disk before it is cleared (O3). */
err log_manager_opened(struct log_manager *m)
{
    struct journal *j = &m->journal;
    err e =
        j->opened ? OK : journal_open(j, true); /* no log: there is nothing that it could hold */
    bool said = false;
    if (!e && j->replay) {
        m->offset_files.stale = true;
        e = offset_files_mend(m);
        said = !e;
    }
    e = e ? e : journal_recycle(j, m->o.journal_files);
    if (e ==
        ERR_NO_SPACE) { /* the next start finds it as this one did, and until then there is none
                         */
        diag_log(m->o.diag, DIAG_WARN, "journal_off", "error=\"%s\"", err_text(e));
        e = OK;
    }
    if (!said) { /* it is left to the first groups */
        journal_carry(m);
    }
    expected_forget(m); /* none is left */
    m->opened = true;
    checkpoint_arm(m); /* of what was scanned */
    return e;
}
