/* settings: a topic's resolved settings, as its logs take them, and what meta/ refuses of them.
 * Pure. */
#pragma once

#include "broker/config.h"
#include "broker/log/log.h"

void topic_log_config(const struct topic_config *t, bool internal, struct log_config *ret_config);
void meta_log_config(const struct config *config,
                     struct log_config *ret_config); /* of the metadata log: kept for ever */

/* The settings of a topic that was asked for. ERR_UNSUPPORTED with `text`: an unknown or bad one,
 * or compaction, which only internal topics may ask for until there is any. */
err topic_settings_create(const struct config *config, const struct config_pair *pairs,
                          int32_t count, bool internal, struct buf *text,
                          struct topic_config **ret_config);
