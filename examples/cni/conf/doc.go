// Package conf reads the network configuration of the plugin: one JSON object that holds what the stock plugins bridge, host-local,
// portmap, bandwidth, tuning and sbr spread over several, under the same keys.
//
// Reading is strict. Every fault is told at once, each with the path of its key, and a key that is not known is an error that names the
// nearest one that is: a misspelt key that is silently ignored is found only in production.
package conf
