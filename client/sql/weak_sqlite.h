/* weak_sqlite: a database's library is the service's own, which has made the connection with it. What we
 * call of it is weak here, so that a part is linked with neither, and a service with one database
 * needs one: the other's functions are not there, and its backend is NULL.
 *
 * To be included behind sqlite3.h.
 */
#pragma once

#pragma weak sqlite3_bind_blob64
#pragma weak sqlite3_bind_int64
#pragma weak sqlite3_bind_null
#pragma weak sqlite3_bind_parameter_index
#pragma weak sqlite3_bind_text64
#pragma weak sqlite3_changes
#pragma weak sqlite3_column_blob
#pragma weak sqlite3_column_bytes
#pragma weak sqlite3_column_count
#pragma weak sqlite3_column_int64
#pragma weak sqlite3_column_text
#pragma weak sqlite3_column_type
#pragma weak sqlite3_errcode
#pragma weak sqlite3_errmsg
#pragma weak sqlite3_extended_errcode
#pragma weak sqlite3_finalize
#pragma weak sqlite3_get_autocommit
#pragma weak sqlite3_prepare_v2
#pragma weak sqlite3_step
