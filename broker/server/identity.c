/* Files of the data directory (docs/ARCHITECTURE.md, "On disk"):
 *
 *   .lock                  held by the process
 *   rivulet.format         "2\n"; 1 was the same without the journal, and becomes 2 at its start
 *   meta.properties        Kafka's: version=1, node.id, directory.id, cluster.id
 *   start-number           "N\n"
 *   .kafka_cleanshutdown   Kafka's: {"version":0,"brokerEpoch":-1}
 *
 * The format is written first: a directory with meta.properties and without it is not ours.
 */
#include "broker/server/identity.h"

#include "base/rand.h"

#include <stdio.h>

enum { SMALL_FILE = 65536 };

static err fail(const struct diag *diag, const char *file, err e, const char *why)
{
    diag_log(diag, DIAG_ERROR, "data_directory_refused", "file=%s reason=\"%s\"", file,
             why ? why : err_text(e));
    return e;
}

static err write_format(struct store *store, const struct diag *diag)
{
    char line[16];
    int n = snprintf(line, sizeof line, "%d\n", IDENTITY_FORMAT);
    err e = store_replace_file(store, "rivulet.format", line, (size_t)n);
    return e ? fail(diag, "rivulet.format", e, NULL) : OK;
}

static err check_format(struct store *store, const struct diag *diag)
{
    struct buf text = {0};
    struct buf other = {0};
    int64_t format = 0;
    err e = store_read_file(store, "rivulet.format", SMALL_FILE, &text);
    if (e == ERR_NOT_FOUND) {
        e = store_read_file(store, "meta.properties", SMALL_FILE, &other);
        if (e == OK) {
            e = fail(diag, "meta.properties", ERR_UNSUPPORTED,
                     "this is another broker's data directory: rivulet.format is missing");
        } else if (e == ERR_NOT_FOUND) {
            e = write_format(store, diag);
        } else {
            e = fail(diag, "meta.properties", e, NULL);
        }
    } else if (e) {
        e = fail(diag, "rivulet.format", e, NULL);
    } else if (text.len < 2 || text.ptr[text.len - 1] != '\n' ||
               str_to_int64((struct str){text.ptr, text.len - 1}, &format) ||
               format < IDENTITY_FORMAT_OLDEST || format > IDENTITY_FORMAT) {
        e = fail(diag, "rivulet.format", ERR_UNSUPPORTED,
                 "a format that this build does not know (it knows 1 and 2)");
    } else if (format != IDENTITY_FORMAT) { /* before anything is written that it has not */
        e = write_format(store, diag);
        if (!e) {
            diag_log(diag, DIAG_INFO, "format_upgraded", "from=%lld to=%d", (long long)format,
                     IDENTITY_FORMAT);
        }
    }
    buf_finish(&text);
    buf_finish(&other);
    return e;
}

/* The value of `name=` in a properties file; null when it is not there. */
static struct str property(const struct buf *text, const char *name)
{
    size_t n = strlen(name);
    const char *at = text->ptr;
    const char *end = text->ptr + text->len;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((line_end ? line_end : end) - at);
        if (len > n && memcmp(at, name, n) == 0 && at[n] == '=') {
            size_t value = len - n - 1;
            while (value > 0 && (at[n + value] == '\r' || at[n + value] == ' ')) {
                value--;
            }
            return (struct str){at + n + 1, value};
        }
        at += len + 1;
    }
    return (struct str){0};
}

static err take_properties(const struct buf *text, int32_t node_id, const struct diag *diag,
                           struct identity *id)
{
    struct str cluster = property(text, "cluster.id");
    struct str directory = property(text, "directory.id");
    int64_t node;
    char why[120];
    if (str_to_int64(property(text, "node.id"), &node) || cluster.len == 0 ||
        cluster.len >= UUID_TEXT_SIZE || directory.len >= UUID_TEXT_SIZE) {
        return fail(diag, "meta.properties", ERR_CORRUPT,
                    "node.id or cluster.id is missing or makes no sense");
    }
    if (node != node_id) {
        snprintf(why, sizeof why, "it belongs to node.id=%lld, and this broker is node.id=%d",
                 (long long)node, node_id);
        return fail(diag, "meta.properties", ERR_INVALID, why);
    }
    id->node_id = node_id;
    memcpy(id->cluster_id, cluster.ptr, cluster.len);
    id->cluster_id[cluster.len] = 0;
    if (directory.len) {
        memcpy(id->directory_id, directory.ptr, directory.len);
    }
    id->directory_id[directory.len] = 0;
    return OK;
}

static void new_id(char text[UUID_TEXT_SIZE])
{
    struct uuid id;
    do { /* a leading '-' looks like an option on command lines */
        rand_system(&id, sizeof id);
        uuid_to_text(id, text);
    } while (text[0] == '-');
}

static err open_properties(struct store *store, int32_t node_id, const struct diag *diag,
                           struct identity *id)
{
    struct buf text = {0};
    err e = store_read_file(store, "meta.properties", SMALL_FILE, &text);
    if (e == ERR_NOT_FOUND) {
        char cluster[UUID_TEXT_SIZE];
        char directory[UUID_TEXT_SIZE];
        new_id(cluster);
        new_id(directory);
        buf_printf(&text, "version=1\nnode.id=%d\ndirectory.id=%s\ncluster.id=%s\n", node_id,
                   directory, cluster);
        e = store_replace_file(store, "meta.properties", text.ptr, text.len);
    }
    e = e ? fail(diag, "meta.properties", e, NULL) : take_properties(&text, node_id, diag, id);
    buf_finish(&text);
    return e;
}

static err raise_start_number(struct store *store, const struct diag *diag, struct identity *id)
{
    struct buf text = {0};
    char line[32];
    int64_t number = 0;
    err e = store_read_file(store, "start-number", SMALL_FILE, &text);
    if (e == ERR_NOT_FOUND) {
        e = OK;
    } else if (!e && (text.len < 2 || str_to_int64((struct str){text.ptr, text.len - 1}, &number) ||
                      number < 0 || number >= INT32_MAX)) {
        e = ERR_CORRUPT;
    }
    if (!e) {
        id->start_number = (int32_t)number + 1;
        int n = snprintf(line, sizeof line, "%d\n", id->start_number);
        e = store_replace_file(store, "start-number", line, (size_t)n);
    }
    buf_finish(&text);
    return e ? fail(diag, "start-number", e, NULL) : OK;
}

static err take_mark(struct store *store, const struct diag *diag, struct identity *id)
{
    err e = store->ops->unlink(store->ctx, ".kafka_cleanshutdown");
    id->clean = e == OK;
    e = e == ERR_NOT_FOUND ? OK : e;
    e = e ? e : store->ops->sync_dir(store->ctx, "");
    return e ? fail(diag, ".kafka_cleanshutdown", e, NULL) : OK;
}

err identity_lock(struct store *store, const struct diag *diag)
{
    err e = store->ops->lock(store->ctx, ".lock");
    if (e) {
        fail(diag, ".lock", e, e == ERR_BUSY ? "another process uses this data directory" : NULL);
    }
    return e;
}

err identity_open(struct store *store, int32_t node_id, const struct diag *diag,
                  struct identity *ret_identity)
{
    struct identity id = {0};
    err e = check_format(store, diag);
    e = e ? e : open_properties(store, node_id, diag, &id);
    e = e ? e : raise_start_number(store, diag, &id);
    e = e ? e : take_mark(store, diag, &id);
    if (!e) {
        *ret_identity = id;
    }
    return e;
}

err identity_mark_clean(struct store *store)
{
    static const char mark[] = "{\"version\":0,\"brokerEpoch\":-1}";
    return store_replace_file(store, ".kafka_cleanshutdown", mark, sizeof mark - 1);
}
