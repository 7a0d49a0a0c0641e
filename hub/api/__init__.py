"""The routes, one file per topic. A route checks nothing by itself and decides nothing: guards say who may,
structs say what is well-formed, the services do the work, `hub.http.problems` tells what went wrong.
"""
