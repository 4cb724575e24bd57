package policy

// Unseen is unseen.
var Unseen = unseen
