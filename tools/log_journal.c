/* The journal, for who looks at a data directory: read by the broker's own code, through a store
 * that only reads. What it has and a segment lacks is no damage: the next start writes it there.
 */
#include "tools/log_dump.h"

#include "base/mem.h"
#include "broker/log/internal.h"
#include "tools/terminal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* ---- a store that reads; its ctx is the directory's path */

struct store_file {
    FILE *f; /* owned */
};

static err err_here(void)
{
    return errno == ENOENT ? ERR_NOT_FOUND : errno == EACCES ? ERR_DENIED : ERR_IO;
}

static err read_open(void *ctx, const char *path, enum store_open how, struct store_file **ret_file)
{
    struct buf full = {0};
    (void)how; /* the journal's files are opened to be written later: nobody does here */
    buf_printf(&full, "%s/%s", (const char *)ctx, path);
    FILE *f = fopen(buf_text(&full), "rbe");
    err e = f ? OK : err_here();
    buf_finish(&full);
    if (!e) {
        struct store_file *file = mem_need_zero(1, sizeof *file);
        file->f = f;
        *ret_file = file;
    }
    return e;
}

static void read_close(void *ctx, struct store_file *file)
{
    (void)ctx;
    fclose(file->f);
    mem_free(file);
}

static err read_read(void *ctx, struct store_file *file, void *p, size_t size, int64_t position,
                     size_t *ret_read)
{
    (void)ctx;
    if (fseeko(file->f, position, SEEK_SET) != 0) {
        return ERR_IO;
    }
    *ret_read = fread(p, 1, size, file->f);
    return ferror(file->f) ? ERR_IO : OK;
}

static err read_size(void *ctx, struct store_file *file, int64_t *ret_size)
{
    (void)ctx;
    *ret_size = fseeko(file->f, 0, SEEK_END) == 0 ? ftello(file->f) : -1;
    return *ret_size < 0 ? ERR_IO : OK;
}

static err read_list(void *ctx, const char *path,
                     void (*each)(void *arg, const struct store_entry *entry), void *arg)
{
    (void)path; /* the directory itself */
    DIR *dir = opendir(ctx);
    if (!dir) {
        return err_here();
    }
    for (const struct dirent *e; (e = readdir(dir));) {
        each(arg, &(struct store_entry){str_of(e->d_name), e->d_type == DT_DIR});
    }
    closedir(dir);
    return OK;
}

static const struct store_ops read_ops = {
    .open = read_open,
    .close = read_close,
    .read = read_read,
    .size = read_size,
    .list = read_list,
};

static void to_nobody(void *ctx, const char *line, size_t size)
{
    (void)ctx;
    (void)line;
    (void)size;
}

/* ---- finding it */

static bool is_there(const char *dir, const char *name)
{
    struct buf path = {0};
    struct stat st;
    buf_printf(&path, "%s/%s", dir, name);
    bool there = stat(buf_text(&path), &st) == 0;
    buf_finish(&path);
    return there;
}

static size_t without_slashes(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    return n;
}

/* The data directory that `path` is, or is in. False: none. */
static bool find_data_dir(const char *path, struct buf *out)
{
    size_t n = without_slashes(path);
    for (int up = 0; up < 3; up++) { /* itself, a partition, a file of one */
        out->len = 0;
        buf_printf(out, "%.*s", (int)n, path);
        if (is_there(buf_text(out), "meta.properties")) {
            return true;
        }
        if (n == 1 && path[0] == '.') {
            return false;
        }
        while (n > 0 && path[n - 1] != '/') {
            n--;
        }
        n = n > 1 ? n - 1 : n;
        if (n == 0) {
            path = ".";
            n = 1;
        }
    }
    return false;
}

static void tell(struct dump *d, bool is_problem, const char *file, const char *text)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", buf_text(&d->journal.dir), file);
    if (is_problem) {
        bool only = d->journal_only;
        d->journal_only = false; /* this is of the journal */
        dump_problem(d, buf_text(&path), "%s", text);
        d->journal_only = only;
    } else if (d->t->json) {
        d->failed =
            !json_line(stdout, json_pack("{s:s,s:o,s:o}", "kind", "journal", "file",
                                         json_text(buf_text(&path)), "text", json_text(text))) ||
            d->failed;
    } else {
        printf("journal %s: %s\n", buf_text(&path), text);
    }
    buf_finish(&path);
}

static void tell_state(struct dump *d)
{
    const struct journal *j = &d->journal.journal;
    const struct journal_replay *r = j->replay;
    char text[200];
    char file[JOURNAL_PATH_SIZE];
    int files = 0;
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        files += r->images[i] != NULL;
    }
    snprintf(text, sizeof text,
             "%" PRIu64 " group%s in %d file%s, of %zu partition%s; the broker runs, or was not "
             "stopped in order",
             r->groups, r->groups == 1 ? "" : "s", files, files == 1 ? "" : "s",
             map_count(&r->logs), map_count(&r->logs) == 1 ? "" : "s");
    tell(d, false, JOURNAL_NAME "*", text);
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        if (j->files[i].rotten) {
            journal_path(j, i, file);
            tell(d, true, file,
                 "its header has rotted, and nobody knows what it has: the next start cuts no "
                 "partition");
        }
    }
    if (r->rot.position) {
        journal_path(j, r->rot.file, file);
        snprintf(text, sizeof text,
                 "a group is valid at position %" PRId64
                 ", and one before it is not: it has rotted, and the next start cuts no partition",
                 r->rot.position);
        tell(d, true, file, text);
    }
    if (r->torn.position) {
        journal_path(j, r->torn.file, file);
        snprintf(text, sizeof text,
                 "torn at position %" PRId64 ", its end: that group was never acknowledged",
                 r->torn.position);
        tell(d, false, file, text);
    }
}

/* False: it has files that would have to be read, and are not here. */
static bool is_ours(struct dump *d)
{
    struct dump_journal *j = &d->journal;
    char file[DIR_NAME_SIZE];
    err e = log_dir_others(&j->store, file);
    if (e || file[0]) {
        tell(d, true, file,
             e ? err_text(e) : "of a shard that this build does not have: it would be misread");
    }
    return !e && !file[0];
}

bool dump_journal_open(struct dump *d, const char *path)
{
    struct dump_journal *j = &d->journal;
    if (!find_data_dir(path, &j->dir)) {
        return true;
    }
    j->store = (struct store){.ops = &read_ops, .ctx = (void *)(uintptr_t)buf_text(&j->dir)};
    if (!is_ours(d)) {
        return false;
    }
    if (is_there(buf_text(&j->dir), ".kafka_cleanshutdown")) {
        return true;
    }
    j->diag = (struct diag){.level = DIAG_ERROR, .clock = &clock_real, .write = to_nobody};
    journal_init(&j->journal, &j->store, &j->diag, 0, 0);
    map_init(&j->points, 0);
    err e = journal_open(&j->journal, false);
    if (e) {
        tell(d, true, JOURNAL_NAME "*", err_text(e));
    }
    j->there =
        !e && j->journal.replay && (j->journal.replay->groups > 0 || j->journal.replay->rotten);
    e = j->there ? offsets_file_read(&j->store, "recovery-point-offset-checkpoint", &j->points)
                 : OK;
    if (e && e != ERR_NOT_FOUND && e != ERR_CORRUPT) { /* the last is told with the file */
        tell(d, true, "recovery-point-offset-checkpoint", err_text(e));
    }
    bool is_data = strlen(buf_text(&j->dir)) == without_slashes(path);
    if (j->there && is_data) {
        tell_state(d);
    }
    return true;
}

void dump_journal_close(struct dump *d)
{
    struct dump_journal *j = &d->journal;
    if (j->journal.store) {
        journal_finish(&j->journal);
        map_finish(&j->points);
    }
    buf_finish(&j->dir);
    *j = (struct dump_journal){0};
}

/* ---- a partition */

/* "TOPIC-N": N. False: it is no partition. */
static bool partition_of(struct str name, int32_t *ret_partition)
{
    size_t n = name.len;
    int64_t number;
    while (n > 0 && name.ptr[n - 1] >= '0' && name.ptr[n - 1] <= '9') {
        n--;
    }
    if (n < 2 || name.ptr[n - 1] != '-' ||
        str_to_int64((struct str){name.ptr + n, name.len - n}, &number) || number > INT32_MAX) {
        return false;
    }
    *ret_partition = (int32_t)number;
    return true;
}

void dump_journal_enter(struct dump *d, const char *path)
{
    struct dump_journal *j = &d->journal;
    char name[LOG_PATH_SIZE];
    struct journal_id id;
    size_t end = without_slashes(path);
    size_t begin = end;
    j->log = NULL;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    if (!j->there || end - begin >= sizeof name) {
        return;
    }
    snprintf(name, sizeof name, "%.*s", (int)(end - begin), path + begin);
    if (partition_of(str_of(name), &id.partition) && !metadata_read(&j->store, name, &id.topic)) {
        j->log = journal_find(&j->journal, id);
        j->next = 0;
        j->recovery_point = checkpoint_value(&j->points, name, 0);
    }
}

const struct journal_batch *dump_journal_at(struct dump *d, int64_t offset)
{
    struct dump_journal *j = &d->journal;
    if (!j->log || offset < j->recovery_point) {
        return NULL;
    }
    while (j->next < j->log->count && j->log->batches[j->next].offset < offset) {
        j->next++;
    }
    bool due = j->next < j->log->count && j->log->batches[j->next].offset == offset;
    return due ? &j->log->batches[j->next] : NULL;
}

void dump_journal_lacks(struct dump *d, const char *path, int64_t from, int64_t to)
{
    if (d->t->json) {
        d->failed = !json_line(stdout, json_pack("{s:s,s:o,s:I,s:I}", "kind", "journal_only",
                                                 "file", json_text(path), "offset",
                                                 (json_int_t)from, "offset_to", (json_int_t)to)) ||
                    d->failed;
    } else {
        printf("journal %s: offsets %" PRId64 " to %" PRId64
               " are in the journal alone; the next start writes them\n",
               path, from, to - 1);
    }
}

void dump_journal_leave(struct dump *d, const char *path)
{
    const struct journal_log *log = d->journal.log;
    d->journal.log = NULL;
    if (log && d->next_offset >= 0 && d->next_offset < log->durable_end) {
        bool only = d->journal_only;
        d->journal_only = false; /* this is what the journal says */
        dump_problem(d, path,
                     "it ends at offset %" PRId64
                     ", and the journal says that it was durable up to "
                     "%" PRId64,
                     d->next_offset, log->durable_end);
        d->journal_only = only;
    }
}
