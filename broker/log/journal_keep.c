/* Keeping the journal's files: one is made when a group wants one and none is free (a broker that
 * nobody writes to has none); when half of them are full, the segments that they stand for are
 * synced by a checkpoint, how far the logs are durable is written to a file of its own, and then
 * they are cleared and free. All of it on the reader, one thing at a time. While none is free,
 * groups sync their segments instead: appends wait for that, and do not fail.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

enum { TRY_AGAIN_GROUPS = 256 }; /* sync groups until what failed is tried again */

struct journal_care {
    struct work work;
    struct offset_files_wait wait; /* to clear: for the durable ends */
    struct log_manager *m;
    struct journal_file *files[JOURNAL_FILES_MAX]; /* to be cleared, oldest first; or made */
    int count;
    bool makes;
    int done; /* out: so many of them */
    err result;
};

void journal_carry(struct log_manager *m)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        log->carried = log->recovery_point < log->durable.offset;
        m->carry = m->carry || log->carried;
    }
}

static void care_run(struct work *work)
{
    struct journal_care *c = list_entry(work, struct journal_care, work);
    for (; c->done < c->count && !c->result; c->done += !c->result) {
        struct journal_file *f = c->files[c->done];
        c->result =
            c->makes ? journal_make_file(&c->m->journal, f) : journal_clear_file(&c->m->journal, f);
    }
}

static void care_end(struct journal_care *c)
{
    struct log_manager *m = c->m;
    for (int i = 0; i < c->count; i++) {
        c->files[i]->state = i < c->done ? JOURNAL_FREE : c->makes ? JOURNAL_NONE : JOURNAL_FULL;
        c->files[i]->use = i < c->done ? 0 : c->files[i]->use;
    }
    if (c->result && !m->journal_said) {
        diag_log(m->o.diag, DIAG_WARN, "journal_file_failed", "what=%s error=\"%s\"",
                 c->makes ? "make" : "clear", err_text(c->result));
    }
    m->journal_said = c->result != OK;
    m->journal_pause = c->result ? TRY_AGAIN_GROUPS : 0;
    mem_free(c);
    m->care = NULL;
    if (!m->journal_said) { /* else the next group asks again */
        journal_tend(m);
    }
}

static void care_done(struct work *work)
{
    struct journal_care *c = list_entry(work, struct journal_care, work);
    struct log_manager *m = c->m;
    care_end(c);
    manager_work_done(m);
}

static void care_begin(struct journal_care *c)
{
    c->work.run = care_run;
    c->work.done = care_done;
    manager_work(c->m, c->m->o.reader, &c->work);
}

static struct journal_care *care_create(struct log_manager *m)
{
    struct journal_care *c = mem_need_zero(1, sizeof *c);
    c->m = m;
    m->care = c;
    m->journal_wanted = false;
    return c;
}

static void said(struct offset_files_wait *w, err e)
{
    struct journal_care *c = list_entry(w, struct journal_care, wait);
    c->result = e;
    if (e || c->m->stopping || c->m->dead) {
        care_end(c);
    } else {
        care_begin(c);
    }
}

/* The segments are synced: what they were written for is over. But a start must know how far their
 * logs were durable, or it takes what has rotted there for a torn tail: that is said first (O3). */
static void synced(struct log_manager *m)
{
    struct journal *j = &m->journal;
    if (m->checkpoint_failed || m->stopping || m->dead) {
        manager_check_stopped(m);
        return;
    }
    struct journal_care *c = care_create(m);
    for (struct journal_file *f; (f = journal_first(j, JOURNAL_FULL)) && f->use <= m->sealed_use;) {
        f->state = JOURNAL_CLEARING;
        c->files[c->count++] = f;
    }
    c->wait = (struct offset_files_wait){.files = 1u << OFFSETS_DURABLE, .done = said};
    offset_files_write(m, &c->wait);
    checkpoint_arm(m);
}

void journal_tend(struct log_manager *m)
{
    struct journal *j = &m->journal;
    if (j->file_count == 0 || m->care || m->stopping || m->dead) {
        return;
    }
    if (m->journal_pause > 0) {
        m->journal_pause--;
        return;
    }
    int full = journal_count(j, JOURNAL_FULL);
    int none = journal_count(j, JOURNAL_NONE);
    bool late = j->active >= 0 && j->position > j->file_bytes / 2;
    if (!journal_has_free(j) && none > 0 && (late || m->journal_wanted)) {
        struct journal_care *c = care_create(m);
        for (int i = 0; c->count == 0; i++) {
            if (j->files[i].state == JOURNAL_NONE) {
                j->files[i].state = JOURNAL_MAKING;
                c->files[c->count++] = &j->files[i];
            }
        }
        c->makes = true;
        care_begin(c);
    } else if (full > 0 && full >= j->file_count / 2 && !m->checkpointing) {
        m->sealed_use = j->files[j->active].use - 1;
        checkpoint_start(m, CHECKPOINT_JOURNAL, synced);
    }
}
