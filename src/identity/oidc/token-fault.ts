// Why a token was refused: one name a cause, for the log. What the sender hears says none of them (describe-fault.ts).

export type TokenFault =
  // The text.
  | 'TooLarge'
  | 'Encrypted'
  | 'NotThreeParts'
  | 'NotBase64Url'
  | 'BadHeader'
  | 'BadPayload'
  | 'HeaderParameter'
  | 'AlgorithmNone'
  | 'AlgorithmSymmetric'
  // Whose it is, and by which key.
  | 'NoIssuer'
  | 'UnknownIssuer'
  | 'AmbiguousIssuer'
  | 'KeysTooOld'
  | 'UnknownKey'
  | 'AmbiguousKey'
  | 'AlgorithmNotAllowed'
  | 'AlgorithmMisfitsKey'
  | 'Signature'
  // What it is.
  | 'LogoutToken'
  | 'RefreshToken'
  | 'BoundToKey'
  | 'Delegated'
  | 'Audience'
  | 'Use'
  | 'AmbiguousUse'
  | 'Client'
  | 'Type'
  | 'Mark'
  // When it is good.
  | 'NoTime'
  | 'FromTheFuture'
  | 'NotYet'
  | 'Expired'
  | 'LivesTooLong'
  | 'Void'
  | 'Nonce'
  // Whom it names.
  | 'NoSubject'
  | 'NoUid'
  | 'NoUsername'
  | 'UnverifiedEmail'
  | 'ForbiddenName'
  | 'ForeignJob';
