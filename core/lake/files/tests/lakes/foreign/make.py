# Makes the files beside it: twelve samples as other programs write them. Needs pyarrow, duckdb, pandas and polars; made with
# pyarrow 26.0.1, duckdb 2.0.1, polars 2.1.0. Run it where it lies.
import pyarrow as pa, pyarrow.parquet as pq, duckdb, os, sys, datetime, random
src='../columns-2/samples.parquet'
out='.'
t=pq.read_table(src)
def rows():
    base=t.to_pylist()
    r=[]
    for i in range(12):
        row=dict(base[i%2]); row['monitor']='m%d'%(i//6)
        row['started_at']=base[0]['started_at']+datetime.timedelta(minutes=i%6)
        if i%3==0: row['hops']=[{'by':'a.example.com','from':None,'at':row['started_at'],'delay_us':5*i,'clock_suspect':False},{'by':None,'from':'b','at':None,'delay_us':None,'clock_suspect':True}]
        elif i%3==1: row['hops']=[]
        else: row['hops']=None
        r.append(row)
    return r
R=rows()
schema=pa.schema([f.with_nullable(True) for f in t.schema])
T=pa.Table.from_pylist(R,schema=schema)
TM=T.replace_schema_metadata(t.schema.metadata)
def w(name,tab=None,**k): pq.write_table(TM if tab is None else tab, f'{out}/{name}.parquet',**k)
for c in ['snappy','gzip','brotli','lz4','zstd']: w('pyarrow-'+c,compression=c)
w('pyarrow-page-v2',data_page_version='2.0',compression='snappy')
w('pyarrow-page-v2-zstd-crc',data_page_version='2.0',compression='zstd',write_page_checksum=True)
w('pyarrow-delta',use_dictionary=False,data_page_version='2.0',column_encoding={'monitor':'DELTA_BYTE_ARRAY','started_at':'DELTA_BINARY_PACKED','outcome':'DELTA_LENGTH_BYTE_ARRAY','round_trip_us':'DELTA_BINARY_PACKED','spam_score':'BYTE_STREAM_SPLIT'})
w('pyarrow-int96',use_deprecated_int96_timestamps=True)
w('pyarrow-ms',coerce_timestamps='ms',allow_truncated_timestamps=True)
ns=T.set_column(T.schema.get_field_index('started_at'),'started_at',T['started_at'].cast(pa.timestamp('ns','UTC')))
w('pyarrow-ns',ns)
large=T
for n in ['monitor','outcome','error']:
    large=large.set_column(large.schema.get_field_index(n),n,large[n].cast(pa.large_string()))
w('pyarrow-large-string',large)
dic=T
for n in ['monitor','outcome']:
    dic=dic.set_column(dic.schema.get_field_index(n),n,dic[n].dictionary_encode())
w('pyarrow-dictionary-type',dic)
w('pyarrow-many-groups',row_group_size=5)
sh=T.take(pa.array([7,3,11,0,9,1,5,2,10,4,8,6]))
w('pyarrow-unsorted',sh)
cols=list(reversed(T.column_names))
w('pyarrow-column-order-and-extra',T.select(cols).append_column('remark',pa.array(['x']*12)))
w('pyarrow-non-compliant-lists',use_compliant_nested_type=False)
import pandas as pd
df=T.to_pandas(); pq.write_table(pa.Table.from_pandas(pd.DataFrame({'monitor':df.monitor,'started_at':df.started_at,'outcome':df.outcome,'round_trip_us':df.round_trip_us.astype('float64')})),f'{out}/pandas-floats.parquet')
con=duckdb.connect()
con.execute("set timezone='UTC'")
for c in ['snappy','zstd','gzip','brotli','lz4_raw']:
    con.execute(f"copy (select * from '{out}/pyarrow-zstd.parquet') to '{out}/duckdb-{c}.parquet' (format parquet, codec '{c}')")
con.execute(f"copy (select * from '{out}/pyarrow-zstd.parquet') to '{out}/duckdb-v2.parquet' (format parquet, parquet_version v2)")
import polars as pl
for c in ['snappy','lz4']:
    pl.read_parquet(f'{out}/pyarrow-zstd.parquet').write_parquet(f'{out}/polars-{c}.parquet',compression=c)
pq.write_table(T.slice(0,0),f'{out}/empty.parquet')
try:
    import pyarrow.parquet.encryption as pe
    class K(pe.KmsClient):
        def __init__(s,c): super().__init__()
        def wrap_key(s,k,m): import base64; return base64.b64encode(k)
        def unwrap_key(s,k,m): import base64; return base64.b64decode(k)
    f=pe.CryptoFactory(lambda c:K(c))
    for name,plain in [('encrypted-footer',False),('encrypted-columns',True)]:
        cfg=pe.EncryptionConfiguration(footer_key='f',column_keys={'c':['round_trip_us']} if plain else {'c':['monitor']},plaintext_footer=plain)
        props=f.file_encryption_properties(pe.KmsConnectionConfig(),cfg)
        with pq.ParquetWriter(f'{out}/{name}.parquet',T.schema,encryption_properties=props) as wr: wr.write_table(T)
except Exception as e: print('encryption',repr(e))
