/* rivulet log repair: says what is wrong with the partitions of a data directory and what would
 * make them right, and does it when it may. The plan is broker/log/repair.h's; here are the lock,
 * the partitions, and what is printed.
 */
#include "base/mem.h"
#include "broker/log/internal.h"
#include "broker/log/repair.h"
#include "tools/files.h"
#include "tools/log_dump.h"
#include "tools/terminal.h"
#include "tools/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { MARK_SIZE_MAX = 65536 }; /* of meta.properties */

struct repair_job {
    const struct tool *t;      /* borrowed */
    struct store store;        /* owned, locked */
    struct buf dirs;           /* owned; partitions, each with its 0 */
    struct repair_plan *plans; /* owned; of each of them */
    int count;                 /* of plans */
    bool failed;               /* a partition could not be read, or repaired */
    bool journal;              /* there is one that holds something */
    int64_t problems;
    int64_t bytes; /* to be cut */
    int64_t left;  /* problems that stay */
};

static bool is_partition(struct str name)
{
    size_t n = name.len;
    while (n > 0 && name.ptr[n - 1] >= '0' && name.ptr[n - 1] <= '9') {
        n--;
    }
    return n > 1 && n < name.len && name.ptr[n - 1] == '-';
}

static void each_dir(void *arg, const struct store_entry *entry)
{
    struct repair_job *j = arg;
    bool wanted = j->t->arg_count == 1;
    for (int i = 1; i < j->t->arg_count; i++) {
        wanted = wanted || str_eq(entry->name, str_of(j->t->args[i]));
    }
    if (entry->is_dir && wanted && is_partition(entry->name)) {
        buf_add_str(&j->dirs, entry->name);
        buf_add(&j->dirs, "", 1);
        j->count++;
    }
}

/* ---- what is printed */

static const char *const kinds[] = {[REPAIR_CUT] = "cut",
                                    [REPAIR_OFFSET] = "offset",
                                    [REPAIR_REMOVE] = "remove",
                                    [REPAIR_END] = "end",
                                    [REPAIR_LEFT_ALONE] = "left_alone"};

static void say_json(struct repair_job *j, const struct repair_step *s, bool done)
{
    bool is_cut = s->kind == REPAIR_CUT;
    json_t *o = json_pack("{s:s,s:o,s:o,s:b}", "kind", kinds[s->kind], "file", json_text(s->path),
                          "text", json_text(s->why), "done", done && s->kind != REPAIR_LEFT_ALONE);
    if (o && (is_cut || s->kind == REPAIR_OFFSET)) {
        json_object_set_new(o, "position", json_integer(s->position));
    }
    if (o && is_cut) {
        json_object_set_new(o, "bytes", json_integer(s->size));
        json_object_set_new(o, "offset_to",
                            s->offset_to == INT64_MAX ? json_null() : json_integer(s->offset_to));
    }
    if (o && s->kind != REPAIR_REMOVE && s->kind != REPAIR_LEFT_ALONE) {
        json_object_set_new(o, "offset", json_integer(s->offset));
    }
    j->failed = !json_line(stdout, o) || j->failed;
}

static void say_text(const struct repair_step *s, bool done)
{
    printf("%sPROBLEM%s %s: %s; ", color_begin(stdout, COLOR_RED), color_end(stdout), s->path,
           s->why);
    const char *will = done ? "" : "would be ";
    switch (s->kind) {
    case REPAIR_CUT:
        printf("%" PRId64 " bytes at position %" PRId64 " %scut, offsets %" PRId64, s->size,
               s->position, will, s->offset);
        if (s->offset_to == INT64_MAX) {
            printf(" to the end\n");
        } else {
            printf(" to %" PRId64 "\n", s->offset_to - 1);
        }
        break;
    case REPAIR_OFFSET:
        printf("at position %" PRId64 " %" PRId64 " %sset to %" PRId64 "\n", s->position,
               s->offset_to, will, s->offset);
        break;
    case REPAIR_REMOVE: printf("%sremoved\n", will); break;
    case REPAIR_END: printf("%smade, empty, so that no offset is given twice\n", will); break;
    case REPAIR_LEFT_ALONE: printf("left alone\n"); break;
    }
}

static void say_plan(struct repair_job *j, const struct repair_plan *plan, bool done)
{
    for (int i = 0; i < plan->count; i++) {
        const struct repair_step *s = repair_step(plan, i);
        if (j->t->json) {
            say_json(j, s, done);
        } else {
            say_text(s, done);
        }
    }
}

static int summary(struct repair_job *j, bool done)
{
    if (j->t->json) {
        j->failed =
            !json_line(stdout, json_pack("{s:s,s:i,s:I,s:I,s:I,s:b}", "kind", "summary",
                                         "partitions", j->count, "problems",
                                         (json_int_t)j->problems, "cut_bytes", (json_int_t)j->bytes,
                                         "left_alone", (json_int_t)j->left, "done", done)) ||
            j->failed;
    } else {
        printf("%s%" PRId64 " problem%s%s in %d partition%s: %" PRId64 " bytes %scut%s\n",
               color_begin(stdout, j->problems ? COLOR_RED : COLOR_GREEN), j->problems,
               j->problems == 1 ? "" : "s", color_end(stdout), j->count, j->count == 1 ? "" : "s",
               j->bytes, done ? "" : "would be ", j->left ? ", some is left alone" : "");
    }
    return j->failed || j->left || (!done && j->problems) ? EXIT_FAILED : EXIT_DONE;
}

/* ---- the work */

static bool begins_with_zeros(struct store *store, const char *path)
{
    static const uint8_t zeros[JOURNAL_BLOCK];
    uint8_t head[JOURNAL_BLOCK];
    struct store_file *file;
    size_t got = 0;
    if (store->ops->open(store->ctx, path, STORE_READ, &file)) {
        return false;
    }
    err e = store->ops->read(store->ctx, file, head, sizeof head, 0, &got);
    store->ops->close(store->ctx, file);
    return !e && memcmp(head, zeros, got) == 0;
}

static void each_journal(void *arg, const struct store_entry *entry)
{
    struct repair_job *j = arg;
    static const struct str prefix = {JOURNAL_NAME, sizeof JOURNAL_NAME - 1};
    char path[64];
    if (!entry->is_dir && entry->name.len > prefix.len && entry->name.len < sizeof path &&
        memcmp(entry->name.ptr, prefix.ptr, prefix.len) == 0) {
        snprintf(path, sizeof path, "%.*s", STR_ARG(entry->name));
        j->journal = j->journal || !begins_with_zeros(&j->store, path);
    }
}

/* After a crash the end of a partition may be in the journal alone: what looks torn here is not. */
static int refuse_journal(struct repair_job *j, const char *path)
{
    struct store_file *mark;
    if (j->store.ops->open(j->store.ctx, ".kafka_cleanshutdown", STORE_READ, &mark) == OK) {
        j->store.ops->close(j->store.ctx, mark);
        return EXIT_DONE;
    }
    err e = j->store.ops->list(j->store.ctx, "", each_journal, j);
    if (e || j->journal) {
        dump_journal_report(j->t, path);
        fflush(stdout);
        tool_say("%s was not stopped in order, and has a journal that no start has read\nstart "
                 "rivuletd on it once: what the journal has goes back to its place; then repair "
                 "what is still wrong",
                 path);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/* What stands in the way of a plan, and is the broker's to read. */
static int refuse_unknown(struct repair_job *j, const char *path)
{
    struct map ends;
    char file[DIR_NAME_SIZE];
    err e = log_dir_others(&j->store, file);
    if (e || file[0]) {
        tool_say(e ? "%s cannot be listed: %s"
                   : "%s/%s is of a shard that this build does not have: it would be misread",
                 path, e ? err_text(e) : file);
        return EXIT_FAILED;
    }
    int code = refuse_journal(j, path);
    if (code != EXIT_DONE) {
        return code;
    }
    map_init(&ends, 0);
    e = durable_offsets_read(&j->store, "durable-offset-checkpoint", &ends);
    map_finish(&ends);
    if (e && e != ERR_NOT_FOUND) {
        tool_say("%s/durable-offset-checkpoint cannot be read: %s\nit says how far the partitions "
                 "were good; start rivuletd on them once, which writes it anew",
                 path, err_text(e));
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int open_directory(struct repair_job *j, const char *path)
{
    struct buf mark = {0};
    struct buf text = {0};
    buf_printf(&mark, "%s/meta.properties", path);
    const char *name = buf_text(&mark);
    bool is_data = !mark.failed && file_read(name, MARK_SIZE_MAX, &text);
    buf_finish(&text);
    buf_finish(&mark);
    if (!is_data) {
        tool_say("%s is not the data directory of a broker\nthere is no meta.properties in it",
                 path);
        return EXIT_FAILED;
    }
    err e = store_open_posix(path, &j->store);
    if (e) {
        tool_say(e == ERR_INVALID
                     ? "%s belongs to another user, or others may write into it (%s)\nrepair it "
                       "as the user that the broker runs as"
                     : "%s: %s",
                 path, err_text(e));
        return EXIT_FAILED;
    }
    e = j->store.ops->lock(j->store.ctx, ".lock");
    if (e) {
        tool_say(e == ERR_BUSY ? "%s is in use by a broker (%s)\nstop it first" : "%s: %s", path,
                 err_text(e));
        return EXIT_FAILED;
    }
    int code = refuse_unknown(j, path);
    if (code != EXIT_DONE) {
        return code;
    }
    e = j->store.ops->list(j->store.ctx, "", each_dir, j);
    if (e || j->dirs.failed) {
        tool_say("%s cannot be listed: %s", path, err_text(e ? e : ERR_MEMORY));
        return EXIT_FAILED;
    }
    if (j->count < j->t->arg_count - 1 || j->count == 0) {
        tool_say("%s in %s", j->count ? "not every partition that was named is" : "no partition is",
                 path);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static void plan_all(struct repair_job *j)
{
    const char *dir = j->dirs.ptr;
    for (int i = 0; i < j->count; i++, dir += strlen(dir) + 1) {
        err e = repair_plan(&j->store, dir, &j->plans[i]);
        if (e) {
            tool_say("%s cannot be read: %s", dir, err_text(e));
            j->failed = true;
            continue;
        }
        for (int n = 0; n < j->plans[i].count; n++) {
            j->problems++;
            j->left += repair_step(&j->plans[i], n)->kind == REPAIR_LEFT_ALONE;
        }
        j->bytes += j->plans[i].bad_bytes;
    }
}

static int apply_all(struct repair_job *j)
{
    const char *dir = j->dirs.ptr;
    for (int i = 0; i < j->count; i++, dir += strlen(dir) + 1) {
        err e = repair_apply(&j->store, dir, &j->plans[i]);
        if (e) {
            tool_say("%s: the repair failed: %s\nwhat was not repaired is as it was; run it again",
                     dir, err_text(e));
            j->failed = true;
            return EXIT_FAILED; /* a disk that fails: nothing more is tried */
        }
        if (j->t->json) {
            say_plan(j, &j->plans[i], true);
        }
    }
    return summary(j, true);
}

static int work(struct repair_job *j)
{
    int code = open_directory(j, j->t->args[0]);
    if (code != EXIT_DONE) {
        return code;
    }
    j->plans = mem_zero((size_t)j->count, sizeof *j->plans);
    if (!j->plans) {
        return tool_no_memory();
    }
    plan_all(j);
    bool dry = tool_has(j->t, 'D') || j->problems == j->left;
    for (int i = 0; i < j->count && (dry || !j->t->json); i++) {
        say_plan(j, &j->plans[i], false); /* with --json each step is said once: when it is done */
    }
    if (dry) {
        return summary(j, j->problems == j->left);
    }
    code = tool_confirm(j->t, "repair %" PRId64 " problem%s in %s, cutting %" PRId64 " bytes",
                        j->problems - j->left, j->problems - j->left == 1 ? "" : "s", j->t->args[0],
                        j->bytes);
    return code == EXIT_DONE ? apply_all(j) : code;
}

int verb_log_repair(struct tool *t)
{
    struct repair_job j = {.t = t};
    int code = work(&j);
    for (int i = 0; j.plans && i < j.count; i++) {
        repair_plan_finish(&j.plans[i]);
    }
    mem_free(j.plans);
    buf_finish(&j.dirs);
    if (j.store.ops) {
        store_close_posix(&j.store);
    }
    return code;
}
