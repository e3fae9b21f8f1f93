/* weak_pg: of libpq, as weak_sqlite.h says. To be included behind libpq-fe.h. */
#pragma once

#pragma weak PQclear
#pragma weak PQcmdStatus
#pragma weak PQcmdTuples
#pragma weak PQconsumeInput
#pragma weak PQerrorMessage
#pragma weak PQexec
#pragma weak PQexecParams
#pragma weak PQfreemem
#pragma weak PQftype
#pragma weak PQgetisnull
#pragma weak PQgetlength
#pragma weak PQgetvalue
#pragma weak PQnfields
#pragma weak PQnotifies
#pragma weak PQntuples
#pragma weak PQresultErrorField
#pragma weak PQresultStatus
#pragma weak PQsocket
#pragma weak PQstatus
#pragma weak PQtransactionStatus
