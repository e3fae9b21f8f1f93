#include "broker/meta/settings.h"

void topic_log_config(const struct topic_config *t, bool internal, struct log_config *ret_config)
{
    *ret_config = (struct log_config){
        .segment_bytes = t->segment_bytes,
        .segment_ms = t->segment_ms,
        .retention_bytes = t->retention_bytes,
        .retention_ms = t->retention_ms,
        .file_delete_delay_ms = t->file_delete_delay_ms,
        .index_interval_bytes = t->index_interval_bytes,
        .index_max_bytes = t->index_max_bytes,
        .flush_messages = t->flush_messages,
        .flush_ms = t->flush_ms,
        .delete_old = (t->cleanup & CONFIG_CLEANUP_DELETE) != 0,
        .uses_reserve = internal,
        .compact = (t->cleanup & CONFIG_CLEANUP_COMPACT) != 0,
        .compact_roll_bytes = t->compact_roll_bytes,
        .min_cleanable_ratio = t->min_cleanable_ratio,
        .delete_retention_ms = t->delete_retention_ms,
        .min_compaction_lag_ms = t->min_compaction_lag_ms,
    };
}

/* Only a start reads it, from its first record to its last: nobody could miss a tombstone. */
void meta_log_config(const struct config *config, struct log_config *ret_config)
{
    *ret_config = (struct log_config){
        .segment_bytes = 100 << 20,
        .segment_ms = INT64_MAX,
        .retention_bytes = -1,
        .retention_ms = -1,
        .file_delete_delay_ms = 60000,
        .index_interval_bytes = 4096,
        .index_max_bytes = 10 << 20,
        .flush_messages = INT64_MAX,
        .flush_ms = INT64_MAX,
        .delete_old = false,
        .uses_reserve = true,
        .compact = true,
        .compact_roll_bytes = config->compact_roll_bytes,
        .min_cleanable_ratio = config->min_cleanable_ratio,
        .delete_retention_ms = 0,
        .min_compaction_lag_ms = 0,
    };
}

err topic_settings_create(const struct config *config, const struct config_pair *pairs,
                          int32_t count, bool internal, struct buf *text,
                          struct topic_config **ret_config)
{
    struct topic_config *t;
    if (topic_config_create(config, pairs, count, text, &t) != OK) {
        return ERR_UNSUPPORTED;
    }
    if ((t->cleanup & CONFIG_CLEANUP_COMPACT) && !internal) {
        buf_printf(text, "%s=%s: there is no compaction yet; use delete, or leave it empty",
                   t->own[CONFIG_ROW_cleanup_policy] ? "cleanup.policy" : "log.cleanup.policy",
                   t->cleanup_policy);
        topic_config_destroy(t);
        return ERR_UNSUPPORTED;
    }
    *ret_config = t;
    return OK;
}
