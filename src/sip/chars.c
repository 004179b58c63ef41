#include "chars_p.h"

#define DIGIT(c) ((c) >= '0' && (c) <= '9')
#define ALPHA(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define HEX(c)   (DIGIT(c) || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define LWS(c)   ((c) == ' ' || (c) == '\t' || (c) == '\r' || (c) == '\n')
#define TOKEN(c)                                                                                       \
	(DIGIT(c) || ALPHA(c) || (c) == '-' || (c) == '.' || (c) == '!' || (c) == '%' || (c) == '*' || \
	 (c) == '_' || (c) == '+' || (c) == '`' || (c) == '\'' || (c) == '~')
#define URI(c) ((c) > ' ' && (c) != 0x7f && (c) != '<' && (c) != '>' && (c) != '"')
#define PARAM(c)                                                                                           \
	(TOKEN(c) || (c) == '(' || (c) == ')' || (c) == '[' || (c) == ']' || (c) == '/' || (c) == ':' ||   \
	 (c) == '&' || (c) == '+' || (c) == '$' || (c) == ',' || (c) == '=' || (c) == '{' || (c) == '}' || \
	 (c) > 0x7f)

#define ONE(c)                                                                               \
	((TOKEN(c) ? SIP_C_TOKEN : 0) | (LWS(c) ? SIP_C_LWS : 0) |                           \
	 (DIGIT(c) || ALPHA(c) || (c) == '-' || (c) == '.' || (c) == '_' ? SIP_C_HOST : 0) | \
	 (URI(c) ? SIP_C_URI : 0) | (URI(c) && (c) != ';' && (c) != ',' ? SIP_C_VALUE : 0) | \
	 (TOKEN(c) || LWS(c) || (c) > 0x7f ? SIP_C_DISPLAY : 0) | (HEX(c) ? SIP_C_HEX : 0) | \
	 (PARAM(c) ? SIP_C_PARAM : 0))
#define FOUR(c)    ONE(c), ONE((c) + 1), ONE((c) + 2), ONE((c) + 3)
#define SIXTEEN(c) FOUR(c), FOUR((c) + 4), FOUR((c) + 8), FOUR((c) + 12)
#define QUARTER(c) SIXTEEN(c), SIXTEEN((c) + 16), SIXTEEN((c) + 32), SIXTEEN((c) + 48)

const uint8_t sip_chars[256] = {QUARTER(0), QUARTER(64), QUARTER(128), QUARTER(192)};
