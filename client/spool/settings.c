#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"

#include <string.h>

enum { DIR, MAX_BYTES, SEGMENT_BYTES, SYNC_MS, TOPIC_WAIT_MS, COMPRESSION, COUNT };

static const struct rv_option_info infos[] = {
    [DIR] = {"spool.dir",           "spool", "",           "the directory of the spool, made when it is missing"},
    [MAX_BYTES] = {"spool.max.bytes",     "spool", "1073741824",
             "bytes of events that wait or were set aside at most"                                              },
    [SEGMENT_BYTES] = {"spool.segment.bytes", "spool", "8388608",
             "bytes of one file of events, a quarter of spool.max.bytes at most"                                },
    [SYNC_MS] =
        {"spool.sync.ms",       "spool", "0",
             "milliseconds until an event is on stable storage: 0 before rv_spool_append returns, "
         "-1 only with rv_spool_sync and when it is sent"                                                       },
    [TOPIC_WAIT_MS] = {"spool.topic.wait.ms", "spool", "60000",
             "milliseconds that a topic may be missing, while brokers answer, before its "
                       "events are set aside"                                                                   },
    [COMPRESSION] = {"compression.type",    "spool", "none",
             "codec of the batches: none, gzip, snappy, lz4, zstd"                                              },
    [COUNT] = {NULL,                  NULL,    NULL,         NULL                                                 },
};

static const struct {
    int64_t least, most;
} ranges[COUNT] = {
    [MAX_BYTES] = {65536, INT64_MAX},
    [SEGMENT_BYTES] = {4096,  1 << 30  },
    [SYNC_MS] = {-1,    INT32_MAX},
    [TOPIC_WAIT_MS] = {0,     INT32_MAX},
};

const struct rv_option_info *rv_spool_options(void)
{
    return infos;
}

static int number_of(int i, const char *value, int64_t *ret_number, struct rv_error *ret_error)
{
    int64_t n = 0;
    if (str_to_int64(str_of(value), &n) != OK || n < ranges[i].least || n > ranges[i].most) {
        return fail_set(ret_error, RV_E_OPTION,
                        "option %s: '%.60s' is not a whole number from %lld to %lld", infos[i].name,
                        value, (long long)ranges[i].least, (long long)ranges[i].most);
    }
    *ret_number = n;
    return RV_OK;
}

static int codec_of(const char *value, enum codec *ret_codec, struct rv_error *ret_error)
{
    return codec_from_name(str_of(value), ret_codec) == OK
               ? RV_OK
               : fail_set(ret_error, RV_E_OPTION, "option compression.type: no codec '%.60s'",
                          value);
}

static int value_set(struct spool_settings *s, int i, const char *value, struct rv_error *ret_error)
{
    switch (i) {
    case MAX_BYTES: return number_of(i, value, &s->max_bytes, ret_error);
    case SEGMENT_BYTES: return number_of(i, value, &s->segment_bytes, ret_error);
    case SYNC_MS: return number_of(i, value, &s->sync_ms, ret_error);
    case TOPIC_WAIT_MS: return number_of(i, value, &s->topic_wait_ms, ret_error);
    case COMPRESSION: return codec_of(value, &s->codec, ret_error);
    default: break;
    }
    mem_free(s->dir);
    s->dir = mem_dup(value, strlen(value) + 1);
    return s->dir ? RV_OK : fail_memory(ret_error);
}

/* Options of the client, the producer and the consumer are theirs. */
static bool is_known_elsewhere(const char *name)
{
    for (const struct rv_option_info *o = rv_options(); o->name; o++) {
        if (strcmp(o->name, name) == 0) {
            return true;
        }
    }
    return false;
}

int spool_settings_init(struct spool_settings *s, const struct rv_option *options,
                        struct rv_error *ret_error)
{
    struct spool_settings made = {0};
    int code = RV_OK;
    for (int i = 0; i < COUNT && code == RV_OK; i++) {
        code = value_set(&made, i, infos[i].fallback, ret_error);
    }
    for (const struct rv_option *o = options; code == RV_OK && o && o->name; o++) {
        int i = 0;
        while (i < COUNT && strcmp(infos[i].name, o->name) != 0) {
            i++;
        }
        if (i < COUNT && !o->value) {
            code = fail_set(ret_error, RV_E_OPTION, "option %s: the value is missing", o->name);
        } else if (i < COUNT) {
            code = value_set(&made, i, o->value, ret_error);
        } else if (!is_known_elsewhere(o->name)) {
            code = fail_set(ret_error, RV_E_OPTION, "there is no option %.80s", o->name);
        }
    }
    if (code == RV_OK && !made.dir[0]) {
        code = fail_set(ret_error, RV_E_OPTION, "spool.dir is needed");
    }
    if (code != RV_OK) {
        spool_settings_finish(&made);
        return code;
    }
    if (made.segment_bytes > made.max_bytes / 4) {
        made.segment_bytes = made.max_bytes / 4;
    }
    *s = made;
    return RV_OK;
}

void spool_settings_finish(struct spool_settings *s)
{
    mem_free(s->dir);
    s->dir = NULL;
}
