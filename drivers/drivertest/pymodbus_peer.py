"""A Modbus slave by pymodbus: peer.py tcp|PORT JSON. Prints "ready" and its TCP port."""
import asyncio
import json
import sys

from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.framer.rtu_framer import ModbusRtuFramer
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer


def block(table):
    """A sparse block; pymodbus refuses an empty one."""
    return ModbusSparseDataBlock({int(a): v for a, v in table.items()} or {65535: 0})


def context(units):
    """All units, each with its four tables, addressed from zero."""
    slaves = {}
    for unit, tables in units.items():
        slaves[int(unit)] = ModbusSlaveContext(
            co=block(tables.get("coil", {})),
            di=block(tables.get("discrete", {})),
            hr=block(tables.get("holding", {})),
            ir=block(tables.get("input", {})),
            zero_mode=True,
        )
    return ModbusServerContext(slaves=slaves, single=False)


async def main(where, units):
    """Serve until killed."""
    if where == "tcp":
        server = ModbusTcpServer(context(units), address=("127.0.0.1", 0), ignore_missing_slaves=True)
        task = asyncio.ensure_future(server.serve_forever())
        await server.serving
        print("ready", server.server.sockets[0].getsockname()[1], flush=True)
        await task
    else:
        server = ModbusSerialServer(
            context(units), framer=ModbusRtuFramer, port=where, baudrate=9600, ignore_missing_slaves=True
        )
        await server.start()
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
