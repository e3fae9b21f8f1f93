#include "tests/kit/life.h"

#include "base/bytes.h"
#include "base/check.h"
#include "broker/log/internal.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL = 3, LARGE = 17, SMALL_SIZE = 250, LARGE_SIZE = 4096, SEGMENT_BYTES = 2100 };

static const int64_t T0 = 1700000000000;

static const struct {
    const char *name;
    int first_log; /* of its partitions, in life.logs */
    int32_t partitions;
    int64_t retention_bytes;
} topics[LIFE_TOPICS] = {
    {"a", 0, 2, -1  },
    {"r", 2, 1, 3000},
    {"d", 3, 2, -1  },
    {"d", 5, 2, -1  }, /* made again */
};

/* What happens; `n` is which of its kind. */
static const struct {
    enum life_step kind;
    int n;
    int times; /* n rises with them */
} script[] = {
    {LIFE_CREATE,         0,  3},
    {LIFE_APPEND,         0,  6},
    {LIFE_COMMIT,         0,  3},
    {LIFE_WAIT,           0,  2},
    {LIFE_APPEND,         6,  3},
    {LIFE_DELETE_RECORDS, 0,  1},
    {LIFE_COMMIT,         3,  4},
    {LIFE_APPEND_LARGE,   0,  1},
    {LIFE_APPEND,         9,  2},
    {LIFE_WAIT,           2,  2},
    {LIFE_RESTART,        0,  1},
    {LIFE_APPEND,         1,  3},
    {LIFE_DELETE_TOPIC,   2,  1},
    {LIFE_CREATE,         3,  1},
    {LIFE_APPEND,         0,  4},
    {LIFE_COMMIT,         7,  6},
    {LIFE_WAIT,           4,  3},
    {LIFE_DELETE_RECORDS, 1,  1},
    {LIFE_APPEND,         4,  3},
    {LIFE_RESTART,        1,  1},
    {LIFE_COMMIT,         13, 1},
    {LIFE_APPEND,         1,  1},
};

static const char *const step_names[LIFE_STEP_KINDS] = {
    [LIFE_CREATE] = "create",
    [LIFE_APPEND] = "append",
    [LIFE_APPEND_LARGE] = "append (large)",
    [LIFE_COMMIT] = "commit",
    [LIFE_WAIT] = "checkpoint, retention, cleaning",
    [LIFE_DELETE_RECORDS] = "delete records",
    [LIFE_DELETE_TOPIC] = "delete topic",
    [LIFE_RESTART] = "stop and start",
};

static const char *const loss_names[LIFE_LOSSES] = {
    [LIFE_LOST] = "lost",       [LIFE_GONE] = "gone",         [LIFE_WRONG] = "wrong",
    [LIFE_REVIVED] = "revived", [LIFE_NO_START] = "no start",
};

int life_steps(void)
{
    int n = 0;
    for (size_t i = 0; i < sizeof script / sizeof *script; i++) {
        n += script[i].times;
    }
    return n;
}

static int script_at(int step)
{
    size_t i = 0;
    for (; i < sizeof script / sizeof *script && step >= script[i].times; i++) {
        step -= script[i].times;
    }
    check(i < sizeof script / sizeof *script);
    return (int)i;
}

static int number_at(int step)
{
    int row = script_at(step);
    for (int i = 0; i < row; i++) {
        step -= script[i].times;
    }
    return script[row].n + step;
}

enum life_step life_step_at(int step)
{
    return script[script_at(step)].kind;
}

const char *life_step_name(enum life_step kind)
{
    return step_names[kind];
}

const char *life_loss_name(enum life_loss kind)
{
    return loss_names[kind];
}

__attribute__((format(printf, 3, 4))) static void say(struct life *l, enum life_loss kind,
                                                      const char *format, ...)
{
    if (life_loss_count(l) == 0) {
        va_list args;
        int n = snprintf(l->first_loss, sizeof l->first_loss, "%s: ", loss_names[kind]);
        va_start(args, format);
        vsnprintf(l->first_loss + n, sizeof l->first_loss - (size_t)n, format, args);
        va_end(args);
    }
    l->losses[kind]++;
}

uint64_t life_loss_count(const struct life *l)
{
    uint64_t n = 0;
    for (int i = 0; i < LIFE_LOSSES; i++) {
        n += l->losses[i];
    }
    return n;
}

/* ---- life and death */

static struct sim_store *sim_of(struct life *l)
{
    return l->k.logs.sim;
}

static struct log *log_at(struct life *l, int i)
{
    int topic = 0;
    while (topic + 1 < LIFE_TOPICS && topics[topic + 1].first_log <= i) {
        topic++;
    }
    const struct life_topic *t = &l->topics[topic];
    return t->made && !t->gone
               ? log_manager_find(l->k.logs.m, l->logs[i].id, i - topics[topic].first_log)
               : NULL;
}

/* Small segments, below what a topic may be given. */
static void tune(struct life *l)
{
    for (int t = 0; t < LIFE_TOPICS; t++) {
        for (int32_t p = 0; p < topics[t].partitions; p++) {
            struct log *log = log_at(l, topics[t].first_log + p);
            if (log) {
                struct log_config config = log->config;
                config.segment_bytes = SEGMENT_BYTES;
                config.index_interval_bytes = 1000;
                config.retention_bytes = topics[t].retention_bytes;
                log_set_config(log, &config);
            }
        }
    }
}

/* What anybody can see now. */
static void observe(struct life *l)
{
    uint64_t uses = l->k.logs.m->journal.use;
    l->journal_uses += uses - l->uses_seen;
    l->uses_seen = uses;
    for (int i = 0; i < LIFE_LOGS; i++) {
        struct life_log *mine = &l->logs[i];
        const struct log *log = log_at(l, i);
        if (log) {
            int64_t end = log_high_watermark(log);
            int64_t start = log_start_offset(log);
            mine->seen = end > mine->seen ? end : mine->seen;
            mine->start_most = start > mine->start_most ? start : mine->start_most;
        }
    }
}

void life_init(struct life *l, uint64_t seed)
{
    static const char *const sets[] = {
        "offsets.topic.num.partitions=2", "rivulet.log.compact.roll.bytes=500",
        "log.cleaner.min.cleanable.ratio=0.2", "log.cleaner.delete.retention.ms=0", NULL};
    memset(l, 0, sizeof *l);
    broker_kit_init(&l->k, seed, sets);
    for (int i = 0; i < LIFE_LOGS; i++) {
        l->logs[i].tried = -1;
    }
    for (int i = 0; i < LIFE_GROUPS; i++) {
        l->committed[i] = l->tried[i] = -1;
    }
}

void life_finish(struct life *l)
{
    if (!l->runs) { /* what was under way has ended already */
        sim_store_restart(sim_of(l), SIM_KILL);
    }
    broker_kit_finish(&l->k);
}

void life_start(struct life *l, bool clean)
{
    l->starts++;
    l->uses_seen = 0; /* a start counts them anew */
    l->runs = broker_kit_start(&l->k, clean) == OK;
    if (l->runs) {
        tune(l);
    }
}

void life_must_start(struct life *l, bool clean)
{
    life_start(l, clean);
    if (!l->runs) {
        say(l, LIFE_NO_START, "the broker does not start again");
    }
}

void life_crash(struct life *l, enum sim_cut how)
{
    if (l->runs) {
        observe(l);
    }
    broker_kit_crash(&l->k, how);
    l->runs = false;
}

/* False: the process has ended; its memory is given back before that which it borrows. */
static bool lives(struct life *l)
{
    if (sim_store_is_down(sim_of(l))) {
        observe(l);
        broker_kit_stop(&l->k);
        l->runs = false;
    }
    return l->runs;
}

/* ---- steps; true: done */

static void topic_done(void *ctx, err e, struct topic *topic)
{
    (void)topic;
    *(err *)ctx = e;
}

static bool create(struct life *l, int n)
{
    const struct topic_spec spec = {.name = str_of(topics[n].name),
                                    .partition_count = topics[n].partitions};
    const struct topic *t = meta_find(l->k.meta, spec.name);
    struct buf text = {0};
    if (!t) { /* or it came to be though nobody heard of it */
        l->answer = ERR_CLOSED;
        err e = meta_create_topic(l->k.meta, &spec, &text, topic_done, &l->answer);
        broker_kit_settle(&l->k);
        t = e || l->answer ? NULL : meta_find(l->k.meta, spec.name);
    }
    for (int32_t p = 0; t && p < topics[n].partitions; p++) {
        struct life_log *mine = &l->logs[topics[n].first_log + p];
        const struct log *log = log_manager_find(l->k.logs.m, t->id, p);
        mine->id = t->id;
        if (!log || log_end_offset(log) > 0) {
            say(l, LIFE_REVIVED, "topic %s is not empty when it is made", topics[n].name);
        }
    }
    l->topics[n].made = t != NULL;
    buf_finish(&text);
    tune(l);
    return lives(l) && t;
}

static bool delete_topic(struct life *l, int n)
{
    struct buf text = {0};
    struct uuid id = l->logs[topics[n].first_log].id;
    err e = OK;
    l->topics[n].dropped = true;
    if (meta_find_id(l->k.meta, id)) {
        l->answer = ERR_CLOSED;
        e = meta_delete_topic(l->k.meta, id, &text, topic_done, &l->answer);
        broker_kit_settle(&l->k);
        e = e ? e : l->answer;
    }
    l->topics[n].gone = !e;
    buf_finish(&text);
    return lives(l) && !e;
}

struct batch {
    struct log_kit_append a;
    int log;
    int32_t count;
    bool taken;
};

static void submit(struct life *l, struct batch *b, int i, int32_t count, size_t size)
{
    struct life_log *mine = &l->logs[i];
    struct log *log = log_at(l, i);
    *b = (struct batch){.log = i, .count = count};
    if (!log) {
        return;
    }
    int64_t value = (int64_t)l->starts << 32 | mine->sequence;
    log_kit_batch(&b->a, count, size, (uint64_t)value, T0 + mine->sequence, 10 + i, 0,
                  mine->sequence);
    b->taken = !log_kit_append_to(log, &b->a);
    int64_t base = b->a.a.base_offset;
    if (!b->taken) {
        return;
    }
    check(base + count <= LIFE_OFFSETS);
    if (mine->tried >= 0 && mine->tried < log_high_watermark(log) && !b->a.a.duplicate) {
        say(l, LIFE_WRONG, "log %d: what is at %lld already is taken again", i, (long long)base);
    }
    for (int32_t r = 0; r < count; r++) {
        if (!b->a.a.duplicate) {
            mine->values[base + r] = value + r;
        } else if ((int32_t)mine->values[base + r] != mine->sequence + r) {
            say(l, LIFE_WRONG, "log %d: a record of another batch at %lld", i, (long long)base + r);
        }
    }
}

/* True: it is acknowledged. */
static bool end(struct life *l, struct batch *b)
{
    struct life_log *mine = &l->logs[b->log];
    bool good = b->taken && b->a.durable == 1 && !b->a.durable_result;
    if (good) {
        mine->end = b->a.a.base_offset + b->count;
        mine->sequence += b->count;
    }
    mine->tried = b->taken && !good ? b->a.a.base_offset : -1;
    log_kit_append_finish(&b->a);
    return good;
}

/* To all logs at once, or to one; each goes on where it was. */
static bool append(struct life *l, int n)
{
    struct batch b[LIFE_LOGS];
    int count = 0;
    bool good = true;
    for (int i = 0; i < LIFE_LOGS; i++) {
        if (log_at(l, i) && (n % 3 == 0 || n % LIFE_LOGS == i || i == 0)) {
            submit(l, &b[count++], i, SMALL, SMALL_SIZE);
        }
    }
    broker_kit_settle(&l->k);
    bool alive = lives(l);
    for (int i = 0; i < count; i++) {
        good = end(l, &b[i]) && good;
    }
    return alive && good;
}

static bool append_large(struct life *l)
{
    struct batch b;
    submit(l, &b, 0, LARGE, LARGE_SIZE);
    broker_kit_settle(&l->k);
    bool alive = lives(l);
    return end(l, &b) && alive;
}

static void call_done(struct coord_call *call)
{
    *(bool *)call->ctx = true;
}

static const char *const groups[LIFE_GROUPS] = {"g", "h"};

static bool commit(struct life *l, int n)
{
    bool answered = false;
    struct arena arena;
    struct coord_call call = {.done = call_done, .ctx = &answered, .arena = &arena};
    int g = n % LIFE_GROUPS;
    struct group_commit_offset o = {
        .topic = STR("a"), .offset = n, .leader_epoch = -1, .metadata = STR("note")};
    struct group_event event = {
        .kind = GROUP_EVENT_COMMIT,
        .commit = {.member_id = STR(""),
                   .generation = -1,
                   .retention_ms = -1,
                   .offsets = &o,
                   .offset_count = 1}
    };
    arena_init(&arena, 1 << 20);
    l->tried[g] = n > l->tried[g] ? n : l->tried[g];
    answered = coord_submit(l->k.coord, str_of(groups[g]), &event, &call) || answered;
    broker_kit_settle(&l->k);
    coord_forget(l->k.coord, &call);
    bool good = answered && !call.error && call.answer.error == GROUP_OK;
    arena_finish(&arena);
    if (good) {
        l->committed[g] = n;
    }
    return lives(l) && good;
}

static void deletion_done(struct log_deletion *d)
{
    (void)d;
}

static bool delete_records(struct life *l)
{
    struct life_log *mine = &l->logs[0];
    struct log *log = log_at(l, 0);
    struct log_deletion *d = &l->deletion;
    *d = (struct log_deletion){
        .offset = mine->end / 6 * 3 + 1, .result = ERR_CLOSED, .done = deletion_done};
    if (log_start_offset(log) >= d->offset) {
        return true;
    }
    mine->start_most = d->offset > mine->start_most ? d->offset : mine->start_most;
    err e = log_delete_records(log, d);
    broker_kit_settle(&l->k);
    bool alive = lives(l);
    e = e ? e : d->result;
    mine->start = e ? mine->start : d->offset;
    return alive && !e;
}

bool life_stop(struct life *l)
{
    observe(l);
    broker_kit_stop(&l->k);
    l->runs = false;
    return !sim_store_is_down(sim_of(l)) && l->k.logs.stopped_clean;
}

static bool restart(struct life *l)
{
    bool clean = life_stop(l);
    if (sim_store_is_down(sim_of(l))) {
        return false;
    }
    life_start(l, clean);
    return l->runs && lives(l);
}

bool life_wait(struct life *l)
{
    broker_kit_advance(&l->k, 1500);
    if (lives(l)) {
        observe(l);
    }
    return l->runs;
}

void life_run(struct life *l, int until)
{
    bool good = true;
    check(until <= life_steps());
    for (; l->runs && good && l->step < until; l->step += good) {
        int n = number_at(l->step);
        switch (life_step_at(l->step)) {
        case LIFE_CREATE: good = create(l, n); break;
        case LIFE_APPEND: good = append(l, n); break;
        case LIFE_APPEND_LARGE: good = append_large(l); break;
        case LIFE_COMMIT: good = commit(l, n); break;
        case LIFE_WAIT: good = life_wait(l); break;
        case LIFE_DELETE_RECORDS: good = delete_records(l); break;
        case LIFE_DELETE_TOPIC: good = delete_topic(l, n); break;
        case LIFE_RESTART: good = restart(l); break;
        case LIFE_STEP_KINDS: break;
        }
        if (l->runs) {
            observe(l);
            l->refused += !good;
        }
    }
}

/* ---- what is there */

static int64_t look_at_batch(struct life *l, int i, const uint8_t *p, const struct batch_header *h,
                             int64_t next, struct batch_scratch *scratch)
{
    struct batch_iterator it;
    struct record r;
    if (!batch_crc_is_right(p, h->size) || batch_iterator_init(&it, p, h->size, 1 << 20, scratch)) {
        say(l, LIFE_WRONG, "log %d: a batch at %lld is bad", i, (long long)next);
        return h->base_offset + h->last_offset_delta + 1;
    }
    while (!batch_iterator_next(&it, &r)) {
        bool mine = r.offset < LIFE_OFFSETS && r.value.len >= 8 &&
                    (int64_t)get_be64(r.value.ptr) == l->logs[i].values[r.offset];
        if (r.offset >= next && (r.offset > next || !mine)) {
            say(l, r.offset < l->logs[i].seen ? LIFE_GONE : LIFE_WRONG,
                "log %d: offset %lld is another record, or %lld is missing", i, (long long)r.offset,
                (long long)next);
        }
        next = r.offset >= next ? r.offset + 1 : next;
    }
    return next;
}

static void look_at_records(struct life *l, int i, struct log *log)
{
    struct batch_scratch scratch = {0};
    int64_t next = log_start_offset(log);
    int64_t last = log_high_watermark(log);
    while (next < last) {
        struct buf out = {0};
        int64_t before = next;
        struct batch_header h;
        err e = log_kit_read_log(&l->k.logs, log, next, 1 << 20, &out);
        for (size_t at = 0; !e && at < out.len; at += h.size) {
            e = batch_header_read(out.ptr + at, out.len - at, &h);
            next = e ? next : look_at_batch(l, i, (uint8_t *)out.ptr + at, &h, next, &scratch);
        }
        buf_finish(&out);
        /* Behind what was acknowledged and seen it is fenced, and says so; later too. */
        struct life_log *mine = &l->logs[i];
        if (e == ERR_CORRUPT && log->fenced && next >= mine->end && next >= mine->seen) {
            mine->held = next + 1;
        }
        if (e == ERR_CORRUPT && next + 1 == mine->held) {
            break;
        }
        if (e || next == before) {
            say(l, LIFE_LOST, "log %d: %lld cannot be read (%s)", i, (long long)next, err_text(e));
            break;
        }
    }
    batch_scratch_finish(&scratch);
}

static void look_at_log(struct life *l, int i)
{
    struct life_log *mine = &l->logs[i];
    struct log *log = log_at(l, i);
    if (!log) {
        say(l, LIFE_LOST, "log %d is not there", i);
        return;
    }
    int64_t start = log_start_offset(log);
    int64_t last = log_high_watermark(log);
    if (last < mine->end || start > mine->start_most) {
        say(l, LIFE_LOST, "log %d: %lld..%lld, and %lld..%lld were acknowledged", i,
            (long long)start, (long long)last, (long long)mine->start_most, (long long)mine->end);
    } else if (last < mine->seen) {
        say(l, LIFE_GONE, "log %d: ends at %lld, and was read up to %lld", i, (long long)last,
            (long long)mine->seen);
    } else if (start < mine->start) {
        say(l, LIFE_REVIVED, "log %d: begins at %lld, and not at %lld", i, (long long)start,
            (long long)mine->start);
    } else if (last > LIFE_OFFSETS || last != log_end_offset(log)) {
        say(l, LIFE_WRONG, "log %d ends at %lld", i, (long long)last);
    }
    look_at_records(l, i, log);
    mine->seen = last;
}

static void look_at_group(struct life *l, int g)
{
    if (coord_check(l->k.coord, str_of(groups[g])) != GROUP_OK) {
        return; /* it could not be read, and nobody is told anything of it until the next start */
    }
    const struct group *group = coord_find(l->k.coord, str_of(groups[g]));
    const struct group_offset *o = group ? group_offset_find(group, STR("a"), 0) : NULL;
    int64_t found = o ? o->offset : -1;
    if (found < l->committed[g] || found > l->tried[g]) {
        say(l, found < l->committed[g] ? LIFE_LOST : LIFE_WRONG,
            "group %s is at %lld, and was told %lld", groups[g], (long long)found,
            (long long)l->committed[g]);
    }
    l->committed[g] = found;
}

void life_look(struct life *l)
{
    if (!l->runs) {
        return;
    }
    sim_store_pause(sim_of(l), true);
    sim_store_evict(sim_of(l));
    for (int t = 0; t < LIFE_TOPICS; t++) {
        const struct life_topic *topic = &l->topics[t];
        struct uuid id = l->logs[topics[t].first_log].id;
        bool there = topic->made && meta_find_id(l->k.meta, id);
        if (there && topic->gone) {
            say(l, LIFE_REVIVED, "topic %s was deleted", topics[t].name);
        }
        if (!topic->made || topic->gone || (topic->dropped && !there)) {
            continue;
        }
        for (int32_t p = 0; p < topics[t].partitions; p++) {
            look_at_log(l, topics[t].first_log + p);
        }
    }
    for (int g = 0; g < LIFE_GROUPS; g++) {
        look_at_group(l, g);
    }
    sim_store_pause(sim_of(l), false);
}

/* ---- one life, one process */

bool life_apart(void (*run)(const void *arg, void *ret), const void *arg, void *ret, size_t size)
{
    int pipes[2];
    int status = 0;
    memset(ret, 0, size);
    check(pipe(pipes) == 0 && size <= PIPE_BUF);
    fflush(NULL);
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGABRT, SIG_DFL);
        signal(SIGILL, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        run(arg, ret);
        exit(write(pipes[1], ret, size) == (ssize_t)size ? 0 : 1);
    }
    close(pipes[1]);
    bool good = read(pipes[0], ret, size) == (ssize_t)size;
    good = waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status) && good;
    close(pipes[0]);
    return good;
}

uint64_t life_number(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}
